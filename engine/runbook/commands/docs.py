"""``runbook docs``: the documentation that is installed with the program."""

from __future__ import annotations

import click

from runbook.commands.options import SETTINGS


def complete_topics(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """The topics that a shell offers."""
    from runbook import collection

    return sorted(path.stem for path in (collection.root() / "docs").glob(f"{begun}*.md"))


@click.command(context_settings=SETTINGS)
@click.argument("topic", required=False, shell_complete=complete_topics)
def docs(topic: str | None) -> None:
    """Show the documentation of TOPIC; without one, list the topics and where their files are."""
    from runbook import collection
    from runbook.errors import InvalidInputError
    from runbook.load.diagnostics import hint

    folder = collection.root() / "docs"
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))}
    if topic is None:
        width = max(map(len, texts))
        for name, text in texts.items():
            click.echo(f"{name:<{width}}  {text.splitlines()[0].lstrip('# ')}")
        click.echo(f"\nRead one with runbook docs TOPIC. The files are in {folder}.")
        return
    name = topic.removesuffix(".md").removeprefix("docs/")
    if name not in texts:
        raise InvalidInputError(
            f"there is no topic {topic!r}{hint(name, texts)}; runbook docs lists them"
        )
    click.echo_via_pager(texts[name])
