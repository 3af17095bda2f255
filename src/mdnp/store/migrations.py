"""
The schema, as the steps that lead to it. The number of steps done stands in the database (`PRAGMA user_version`).

A step that was released is never changed; what it lacks is a new step.
"""

MIGRATIONS = (
    """
    CREATE TABLE network (
        id       TEXT PRIMARY KEY,
        internal INTEGER NOT NULL,
        mtu      INTEGER NOT NULL,
        options  TEXT NOT NULL,   -- JSON object, the parsed options
        subnets  TEXT NOT NULL    -- JSON array of {"pool", "gateway"}
    ) STRICT;
    CREATE TABLE endpoint (
        id         TEXT PRIMARY KEY,
        network_id TEXT NOT NULL REFERENCES network (id),
        mac        TEXT NOT NULL,
        mac_given  INTEGER NOT NULL,
        addresses  TEXT NOT NULL, -- JSON array of "address/prefix length"
        phase      TEXT NOT NULL,
        sandbox    TEXT NOT NULL
    ) STRICT;
    CREATE INDEX endpoint_of_network ON endpoint (network_id);
    """,
)
