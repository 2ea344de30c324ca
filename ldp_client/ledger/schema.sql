-- The site ledger, version 4. Everything is insert-only; state is a view. ledger/migrations.py brings older ones here.

CREATE TABLE entries (                     -- the chain: what is proved to others
    sequence INTEGER PRIMARY KEY CHECK (sequence >= 1),
    kind     TEXT NOT NULL CHECK (kind IN ('genesis', 'policy', 'approval', 'charge', 'seal', 'abandon', 'query')),
    body     BLOB NOT NULL CHECK (length(body) <= 65536),
    head     TEXT NOT NULL CHECK (length(head) = 64),
    -- An entry follows the one before it, or is the first: so the numbers have no gap, and none is taken twice.
    previous INTEGER GENERATED ALWAYS AS (nullif(sequence - 1, 0)) VIRTUAL REFERENCES entries (sequence)
) STRICT;

-- Policies and approvals are few among many; every charge asks for the last of them.
CREATE INDEX entries_agreed ON entries (kind, sequence) WHERE kind IN ('policy', 'approval');

CREATE TABLE openings (                    -- what a charge's commitment hides; never leaves the site
    charge        INTEGER PRIMARY KEY REFERENCES entries (sequence),
    campaign      TEXT NOT NULL,
    unit          BLOB NOT NULL CHECK (length(unit) = 32),
    salt          BLOB NOT NULL CHECK (length(salt) = 32),
    xray          BLOB NOT NULL CHECK (length(xray) = 32),
    micro_epsilon INTEGER NOT NULL CHECK (micro_epsilon >= 1)
) STRICT;
-- One draw per X-ray and campaign, ever. Hashes by their beginnings: a narrow index is a fast one, since each insert
-- lands on a page of its own. Two hashes that begin alike could only be refused, never be drawn for twice.
CREATE UNIQUE INDEX openings_once ON openings (substr(xray, 1, 16), substr(campaign, 1, 16));

CREATE TABLE bounds (                      -- what each campaign charged may take of one unit: cap * epsilon
    campaign      TEXT PRIMARY KEY,
    micro_epsilon INTEGER NOT NULL CHECK (micro_epsilon >= 1)
) STRICT;

CREATE TABLE seals (                       -- one seal or one abandon settles a charge
    charge   INTEGER PRIMARY KEY REFERENCES openings (charge),
    sequence INTEGER NOT NULL UNIQUE REFERENCES entries (sequence),
    payload  BLOB,                         -- NULL: abandoned
    day      TEXT NOT NULL                 -- of the draw; a batch says the last one of its records
) STRICT;

CREATE TABLE queries (                     -- each evaluation is asked once; what its commitment hides never leaves
    query    INTEGER PRIMARY KEY REFERENCES entries (sequence),
    campaign TEXT NOT NULL UNIQUE,
    salt     BLOB NOT NULL CHECK (length(salt) = 32),
    micro_epsilon INTEGER NOT NULL CHECK (micro_epsilon >= 1)
) STRICT;

CREATE TABLE query_units (                 -- every unit of the evaluation set, each charged the query's loss
    query INTEGER NOT NULL REFERENCES queries (query),
    unit  BLOB NOT NULL CHECK (length(unit) = 32),
    PRIMARY KEY (query, unit)
) STRICT, WITHOUT ROWID;

CREATE TABLE answers (                     -- one seal or one abandon settles a query
    query    INTEGER PRIMARY KEY REFERENCES queries (query),
    sequence INTEGER NOT NULL UNIQUE REFERENCES entries (sequence),
    payload  BLOB,                         -- NULL: abandoned
    day      TEXT NOT NULL
) STRICT;

CREATE TABLE batches (                     -- what was made ready to send; asking again resends these bytes
    first  INTEGER PRIMARY KEY REFERENCES entries (sequence),
    last   INTEGER NOT NULL UNIQUE REFERENCES entries (sequence),
    header TEXT NOT NULL UNIQUE,
    envelope BLOB NOT NULL,
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE documents (                   -- what the centre signed and this site filed
    kind   TEXT NOT NULL,
    digest TEXT NOT NULL,
    body   BLOB NOT NULL,
    reference INTEGER NOT NULL DEFAULT 0,  -- receipts: the last entry they acknowledge
    PRIMARY KEY (kind, digest)
) STRICT;

CREATE TABLE decisions (                   -- the site's answer to a campaign that is no entry: a refusal, a completed run
    id       INTEGER PRIMARY KEY,
    campaign TEXT NOT NULL,
    code     TEXT NOT NULL
) STRICT;

CREATE TABLE merges (                      -- two patient ids that are one person's; never leaves the site
    id     INTEGER PRIMARY KEY,
    kept   BLOB NOT NULL CHECK (length(kept) = 32),
    joined BLOB NOT NULL UNIQUE CHECK (length(joined) = 32 AND joined <> kept)
) STRICT;

CREATE VIEW unsettled AS
    SELECT o.* FROM openings o LEFT JOIN seals s ON s.charge = o.charge WHERE s.charge IS NULL;

CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER openings_no_update BEFORE UPDATE ON openings BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER openings_no_delete BEFORE DELETE ON openings BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER bounds_no_update BEFORE UPDATE ON bounds BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER bounds_no_delete BEFORE DELETE ON bounds BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER seals_no_update BEFORE UPDATE ON seals BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER seals_no_delete BEFORE DELETE ON seals BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER queries_no_update BEFORE UPDATE ON queries BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER queries_no_delete BEFORE DELETE ON queries BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER query_units_no_update BEFORE UPDATE ON query_units BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER query_units_no_delete BEFORE DELETE ON query_units BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER answers_no_update BEFORE UPDATE ON answers BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER answers_no_delete BEFORE DELETE ON answers BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER batches_no_update BEFORE UPDATE ON batches BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER batches_no_delete BEFORE DELETE ON batches BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER documents_no_update BEFORE UPDATE ON documents BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER documents_no_delete BEFORE DELETE ON documents BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER merges_no_update BEFORE UPDATE ON merges BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;
CREATE TRIGGER merges_no_delete BEFORE DELETE ON merges BEGIN SELECT raise(ABORT, 'the ledger is insert-only'); END;

PRAGMA user_version = 4;
