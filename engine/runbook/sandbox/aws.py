"""The sandbox's AWS: moto's server, as a process of its own (``python -m runbook.sandbox.aws``).

It listens on a free port that the system chooses, of loopback or of the address that its second
argument names, notes it in ``run/aws.url``, and ends by itself when its sandbox is gone.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from runbook.home import write_whole
from runbook.sandbox import emr
from runbook.sandbox.processes import serve
from runbook.sandbox.state import Home

# The instances come from the sandbox; the list of Amazon's images is long to read.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")


def main(folder: str, address: str = "127.0.0.1") -> None:
    """Serve until stopped."""
    home = Home(Path(folder))
    serve(home, "aws")

    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)

    def create_app(service: Any) -> Any:
        if service == "emr":
            emr.install(home, url)
        return create_backend_app(service)

    application = DomainDispatcherApplication(create_app)
    server = make_server(address, 0, application, threaded=True, request_handler=MotoRequestHandler)
    url = f"http://{address}:{server.server_port}"
    write_whole(home.run / "aws.url", url, 0o600)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
