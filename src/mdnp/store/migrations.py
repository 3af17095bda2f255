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
        subnets  TEXT NOT NULL,   -- JSON array of {"pool", "gateway"}
        since    REAL NOT NULL,   -- seconds since the epoch
        listed   INTEGER NOT NULL,
        vni      INTEGER NOT NULL, -- of its segment, or 0
        host_addresses TEXT NOT NULL -- JSON array of "address/prefix length"
    ) STRICT;
    CREATE TABLE endpoint (
        id         TEXT PRIMARY KEY,
        network_id TEXT NOT NULL REFERENCES network (id),
        mac        TEXT NOT NULL,
        mac_given  INTEGER NOT NULL,
        addresses  TEXT NOT NULL, -- JSON array of "address/prefix length"
        phase      TEXT NOT NULL,
        sandbox    TEXT NOT NULL,
        allowed    TEXT NOT NULL, -- JSON array of networks
        ports      TEXT NOT NULL, -- JSON array of {"protocol", "port", "host", "first", "last", "host_port", "carried"}
        since      REAL NOT NULL, -- seconds since the epoch
        generation INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX endpoint_of_network ON endpoint (network_id);
    CREATE TABLE pool (
        id       TEXT PRIMARY KEY,
        space    TEXT NOT NULL,
        network  TEXT NOT NULL,
        sub_pool TEXT NOT NULL,   -- or ''
        since    REAL NOT NULL,   -- seconds since the epoch
        holders  INTEGER NOT NULL,
        automatic INTEGER NOT NULL
    ) STRICT;
    -- Parts of cluster-wide pools that are this host's to hand out from.
    CREATE TABLE block (id TEXT PRIMARY KEY, pool TEXT NOT NULL, network TEXT NOT NULL) STRICT;
    -- What other hosts told, as it stood in etcd when it was heard last.
    CREATE TABLE known (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) STRICT;
    -- Allocations and their history: a row for each tenure, without an end while the address is held. No pool is
    -- referred to, since its history outlives it.
    CREATE TABLE allocation (
        pool_id      TEXT NOT NULL,
        address      TEXT NOT NULL,
        kind         TEXT NOT NULL,
        name         TEXT NOT NULL,
        allocated_at REAL NOT NULL,   -- seconds since the epoch
        freed_at     REAL
    ) STRICT;
    CREATE UNIQUE INDEX held_once ON allocation (pool_id, address) WHERE freed_at IS NULL;
    CREATE INDEX allocation_by_pool ON allocation (pool_id, address, freed_at);
    CREATE INDEX allocation_by_address ON allocation (address);
    CREATE INDEX allocation_by_name ON allocation (name) WHERE name <> '';
    -- The history has the last hundred thousand tenures that ended; what is held stays, however old, and what was held
    -- until a day ago: an address that was just given back must rest, and is its name's.
    CREATE TRIGGER history_ends AFTER INSERT ON allocation WHEN NEW.rowid % 1000 = 0
    BEGIN
        DELETE FROM allocation WHERE rowid <= NEW.rowid - 100000 AND freed_at < NEW.allocated_at - 86400;
    END;
    CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    """,
    """
    -- What Docker calls endpoints and networks. Neither is referred to: one may go before its names do.
    CREATE TABLE called (
        id       TEXT PRIMARY KEY,
        name     TEXT NOT NULL,
        aliases  TEXT NOT NULL, -- JSON array
        hostname TEXT NOT NULL,
        service  TEXT NOT NULL
    ) STRICT;
    """,
    """
    -- How many bridges a network has besides its own, and on which of them an endpoint is, 0 for the network's own.
    ALTER TABLE network ADD COLUMN annexes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE endpoint ADD COLUMN annex INTEGER NOT NULL DEFAULT 0;
    """,
)
