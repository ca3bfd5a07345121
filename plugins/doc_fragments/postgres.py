# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_host:
    description: Host of the PostgreSQL server, a name or an address; without it the local socket.
    type: str
  login_port:
    description: Port of the PostgreSQL server.
    type: int
    default: 5432
  login_db:
    description: Name of the labeller database.
    type: str
    default: Africa
  login_user:
    description: Database role that owns the labeller tables.
    type: str
    default: postgis
  login_password:
    description: Password of O(login_user).
    type: str
  connect_timeout:
    description: Seconds to wait for a connection.
    type: int
    default: 10
  lock_timeout:
    description: Seconds to wait for a lock that another session holds before giving up.
    type: int
    default: 30
requirements:
  - psycopg2
"""
