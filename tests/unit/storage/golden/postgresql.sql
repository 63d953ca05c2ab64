-- Every statement of django_idempotency on PostgreSQL.

-- django_idempotency.storage.statements.Texts
-- ------------------------------------------------------------------------------------------

-- insert: Claim a key whose record has not been found.
-- This database has none.

-- claim_joined: Claim a key in the caller's transaction, and read what was there.
INSERT INTO "django_idempotency_idempotencyrecord" ("id", "scope", "key", "token", "fingerprint",
    "attempts", "atomic", "method", "path", "status", "created_at", "claimed_at",
    "lease_expires_at", "expires_at", "error", "response_codec")
VALUES (%(id)s::uuid, %(scope)s, %(key)s, %(token)s::uuid, %(fingerprint)s::bytea,
    %(attempts)s::integer, %(atomic)s::boolean, %(method)s, %(path)s, 'in_progress',
    STATEMENT_TIMESTAMP(), STATEMENT_TIMESTAMP(), STATEMENT_TIMESTAMP() + %(lease)s::interval,
    STATEMENT_TIMESTAMP() + %(life)s::interval, '', '')
ON CONFLICT DO NOTHING;
SELECT
    CASE WHEN token = %(token)s THEN 1 ELSE 0 END,
    fingerprint,
    status,
    token,
    attempts,
    atomic,
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - claimed_at)::float8,
    lease_expires_at <= STATEMENT_TIMESTAMP(),
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - expires_at)::float8,
    "django_idempotency_idempotencyrecord".xmax::text NOT IN ('0',
        "django_idempotency_idempotencyrecord".xmin::text),
    NULL,
    response_status,
    response_headers,
    response_body,
    response_codec
FROM "django_idempotency_idempotencyrecord"
WHERE id = %(id)s;

-- claim: Claim a key, read what was there, and probe its owner's lock.
SET LOCAL lock_timeout = 20;
INSERT INTO "django_idempotency_idempotencyrecord" ("id", "scope", "key", "token", "fingerprint",
    "attempts", "atomic", "method", "path", "status", "created_at", "claimed_at",
    "lease_expires_at", "expires_at", "error", "response_codec")
VALUES (%(id)s::uuid, %(scope)s, %(key)s, %(token)s::uuid, %(fingerprint)s::bytea,
    %(attempts)s::integer, %(atomic)s::boolean, %(method)s, %(path)s, 'in_progress',
    STATEMENT_TIMESTAMP(), STATEMENT_TIMESTAMP(), STATEMENT_TIMESTAMP() + %(lease)s::interval,
    STATEMENT_TIMESTAMP() + %(life)s::interval, '', '')
ON CONFLICT DO NOTHING;
SELECT
    CASE WHEN token = %(token)s THEN 1 ELSE 0 END,
    fingerprint,
    status,
    token,
    attempts,
    atomic,
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - claimed_at)::float8,
    lease_expires_at <= STATEMENT_TIMESTAMP(),
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - expires_at)::float8,
    "django_idempotency_idempotencyrecord".xmax::text NOT IN ('0',
        "django_idempotency_idempotencyrecord".xmin::text),
    CASE WHEN status = 'in_progress' AND atomic AND token <> %(token)s::uuid AND
        ("django_idempotency_idempotencyrecord".xmax::text NOT IN ('0',
        "django_idempotency_idempotencyrecord".xmin::text) OR EXTRACT(EPOCH FROM
        STATEMENT_TIMESTAMP() - claimed_at)::float8 >= 0.25)
      THEN NOT pg_try_advisory_xact_lock_shared(('x' || TRANSLATE(LEFT(token::text, 18), '-',
        ''))::bit(64)::bigint) END,
    response_status,
    response_headers,
    response_body,
    response_codec,
    pg_backend_pid()
FROM "django_idempotency_idempotencyrecord"
WHERE id = %(id)s;

-- claim_unflushed: The same for an atomic view, whose COMMIT flushes for both.
SET LOCAL synchronous_commit = off;
SET LOCAL lock_timeout = 20;
INSERT INTO "django_idempotency_idempotencyrecord" ("id", "scope", "key", "token", "fingerprint",
    "attempts", "atomic", "method", "path", "status", "created_at", "claimed_at",
    "lease_expires_at", "expires_at", "error", "response_codec")
VALUES (%(id)s::uuid, %(scope)s, %(key)s, %(token)s::uuid, %(fingerprint)s::bytea,
    %(attempts)s::integer, %(atomic)s::boolean, %(method)s, %(path)s, 'in_progress',
    STATEMENT_TIMESTAMP(), STATEMENT_TIMESTAMP(), STATEMENT_TIMESTAMP() + %(lease)s::interval,
    STATEMENT_TIMESTAMP() + %(life)s::interval, '', '')
ON CONFLICT DO NOTHING;
SELECT
    CASE WHEN token = %(token)s THEN 1 ELSE 0 END,
    fingerprint,
    status,
    token,
    attempts,
    atomic,
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - claimed_at)::float8,
    lease_expires_at <= STATEMENT_TIMESTAMP(),
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - expires_at)::float8,
    "django_idempotency_idempotencyrecord".xmax::text NOT IN ('0',
        "django_idempotency_idempotencyrecord".xmin::text),
    CASE WHEN status = 'in_progress' AND atomic AND token <> %(token)s::uuid AND
        ("django_idempotency_idempotencyrecord".xmax::text NOT IN ('0',
        "django_idempotency_idempotencyrecord".xmin::text) OR EXTRACT(EPOCH FROM
        STATEMENT_TIMESTAMP() - claimed_at)::float8 >= 0.25)
      THEN NOT pg_try_advisory_xact_lock_shared(('x' || TRANSLATE(LEFT(token::text, 18), '-',
        ''))::bit(64)::bigint) END,
    response_status,
    response_headers,
    response_body,
    response_codec,
    pg_backend_pid()
FROM "django_idempotency_idempotencyrecord"
WHERE id = %(id)s;

-- claim_prepared: The same as one statement, which can be prepared.
WITH claimed AS (
    INSERT INTO "django_idempotency_idempotencyrecord" ("id", "scope", "key", "token",
        "fingerprint", "attempts", "atomic", "method", "path", "status", "created_at",
        "claimed_at", "lease_expires_at", "expires_at", "error", "response_codec")
    SELECT
        %(id)s::uuid,
        %(scope)s,
        %(key)s,
        %(token)s::uuid,
        %(fingerprint)s::bytea,
        %(attempts)s::integer,
        %(atomic)s::boolean,
        %(method)s,
        %(path)s,
        'in_progress',
        STATEMENT_TIMESTAMP(),
        STATEMENT_TIMESTAMP(),
        STATEMENT_TIMESTAMP() + %(lease)s::interval,
        STATEMENT_TIMESTAMP() + %(life)s::interval,
        '',
        ''
    FROM (SELECT set_config('lock_timeout', '20', true)) AS settings
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT
    claims,
    fingerprint,
    status,
    token,
    attempts,
    atomic,
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - claimed_at)::float8,
    lease_expires_at <= STATEMENT_TIMESTAMP(),
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - expires_at)::float8,
    "django_idempotency_idempotencyrecord".xmax::text NOT IN ('0',
        "django_idempotency_idempotencyrecord".xmin::text),
    CASE WHEN status = 'in_progress' AND atomic AND token <> %(token)s::uuid AND
        ("django_idempotency_idempotencyrecord".xmax::text NOT IN ('0',
        "django_idempotency_idempotencyrecord".xmin::text) OR EXTRACT(EPOCH FROM
        STATEMENT_TIMESTAMP() - claimed_at)::float8 >= 0.25)
      THEN NOT pg_try_advisory_xact_lock_shared(('x' || TRANSLATE(LEFT(token::text, 18), '-',
        ''))::bit(64)::bigint) END,
    response_status,
    response_headers,
    response_body,
    response_codec
FROM (SELECT COUNT(*) AS claims FROM claimed) AS made
LEFT JOIN "django_idempotency_idempotencyrecord" ON id = %(id)s;

-- claim_prepared_unflushed: That one for an atomic view.
WITH claimed AS (
    INSERT INTO "django_idempotency_idempotencyrecord" ("id", "scope", "key", "token",
        "fingerprint", "attempts", "atomic", "method", "path", "status", "created_at",
        "claimed_at", "lease_expires_at", "expires_at", "error", "response_codec")
    SELECT
        %(id)s::uuid,
        %(scope)s,
        %(key)s,
        %(token)s::uuid,
        %(fingerprint)s::bytea,
        %(attempts)s::integer,
        %(atomic)s::boolean,
        %(method)s,
        %(path)s,
        'in_progress',
        STATEMENT_TIMESTAMP(),
        STATEMENT_TIMESTAMP(),
        STATEMENT_TIMESTAMP() + %(lease)s::interval,
        STATEMENT_TIMESTAMP() + %(life)s::interval,
        '',
        ''
    FROM (
        SELECT
            set_config('lock_timeout', '20', true),
            set_config('synchronous_commit', 'off', true)
    ) AS settings
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT
    claims,
    fingerprint,
    status,
    token,
    attempts,
    atomic,
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - claimed_at)::float8,
    lease_expires_at <= STATEMENT_TIMESTAMP(),
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - expires_at)::float8,
    "django_idempotency_idempotencyrecord".xmax::text NOT IN ('0',
        "django_idempotency_idempotencyrecord".xmin::text),
    CASE WHEN status = 'in_progress' AND atomic AND token <> %(token)s::uuid AND
        ("django_idempotency_idempotencyrecord".xmax::text NOT IN ('0',
        "django_idempotency_idempotencyrecord".xmin::text) OR EXTRACT(EPOCH FROM
        STATEMENT_TIMESTAMP() - claimed_at)::float8 >= 0.25)
      THEN NOT pg_try_advisory_xact_lock_shared(('x' || TRANSLATE(LEFT(token::text, 18), '-',
        ''))::bit(64)::bigint) END,
    response_status,
    response_headers,
    response_body,
    response_codec
FROM (SELECT COUNT(*) AS claims FROM claimed) AS made
LEFT JOIN "django_idempotency_idempotencyrecord" ON id = %(id)s;

-- heartbeat: The view's transaction locks the row; it waits for a lock.
SELECT pg_advisory_xact_lock(%(lock)s)
FROM "django_idempotency_idempotencyrecord"
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress'
FOR NO KEY UPDATE;

-- heartbeat_nowait: The same; it fails where the row is locked.
SELECT pg_advisory_xact_lock(%(lock)s)
FROM "django_idempotency_idempotencyrecord"
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress'
FOR NO KEY UPDATE NOWAIT;

-- read: Read a record.
SELECT
    fingerprint,
    status,
    token,
    attempts,
    atomic,
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - claimed_at)::float8,
    lease_expires_at <= STATEMENT_TIMESTAMP(),
    EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - expires_at)::float8,
    "django_idempotency_idempotencyrecord".xmax::text NOT IN ('0',
        "django_idempotency_idempotencyrecord".xmin::text),
    NULL,
    response_status,
    response_headers,
    response_body,
    response_codec
FROM "django_idempotency_idempotencyrecord"
WHERE id = %(id)s;

-- complete: Save the response, where the attempt does not hold the row.
UPDATE "django_idempotency_idempotencyrecord"
SET
    status = 'completed',
    error = '',
    completed_at = STATEMENT_TIMESTAMP(),
    response_status = %(response_status)s,
    response_headers = %(response_headers)s::jsonb,
    response_body = %(response_body)s,
    response_codec = %(response_codec)s,
    expires_at = CASE WHEN expires_at < STATEMENT_TIMESTAMP() + %(retention)s::interval
      THEN STATEMENT_TIMESTAMP() + %(retention)s::interval
      ELSE expires_at END
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress';

-- complete_marked: Save the response, where the attempt holds the row.
-- Here the same as complete.

-- complete_fenced: The same, sent together with COMMIT: it fails if the claim is lost.
WITH settled AS (
    UPDATE "django_idempotency_idempotencyrecord"
    SET
        status = 'completed',
        error = '',
        completed_at = STATEMENT_TIMESTAMP(),
        response_status = %(response_status)s,
        response_headers = %(response_headers)s::jsonb,
        response_body = %(response_body)s,
        response_codec = %(response_codec)s,
        expires_at = CASE WHEN expires_at < STATEMENT_TIMESTAMP() + %(retention)s::interval
          THEN STATEMENT_TIMESTAMP() + %(retention)s::interval
          ELSE expires_at END
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = 'in_progress'
    RETURNING 1
)
SELECT WIDTH_BUCKET(0, 0, 1, COUNT(*)::integer)
FROM settled;

-- release: Free the key of an attempt that was no outcome, beside its writes.
UPDATE "django_idempotency_idempotencyrecord"
SET status = 'released', error = '', attempts = attempts - 1
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress';

-- release_marked: The same, where the attempt holds the row.
-- Here the same as release.

-- release_fenced: The same, sent together with COMMIT.
WITH settled AS (
    UPDATE "django_idempotency_idempotencyrecord"
    SET status = 'released', error = '', attempts = attempts - 1
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = 'in_progress'
    RETURNING 1
)
SELECT WIDTH_BUCKET(0, 0, 1, COUNT(*)::integer)
FROM settled;

-- release_late: Free the key after a rollback.
UPDATE "django_idempotency_idempotencyrecord"
SET status = 'released', error = %(error)s
WHERE id IN (
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = 'in_progress'
    FOR NO KEY UPDATE SKIP LOCKED
);

-- take: Take over a record that was released, has expired, or whose owner is dead.
UPDATE "django_idempotency_idempotencyrecord"
SET
    "scope" = %(scope)s,
    "key" = %(key)s,
    "token" = %(token)s::uuid,
    "fingerprint" = %(fingerprint)s::bytea,
    "attempts" = %(attempts)s::integer,
    "atomic" = %(atomic)s::boolean,
    "method" = %(method)s,
    "path" = %(path)s,
    status = 'in_progress',
    claimed_at = STATEMENT_TIMESTAMP(),
    lease_expires_at = STATEMENT_TIMESTAMP() + %(lease)s::interval,
    expires_at = STATEMENT_TIMESTAMP() + %(life)s::interval,
    error = '',
    response_codec = '',
    created_at = CASE WHEN %(anew)s THEN STATEMENT_TIMESTAMP() ELSE created_at END,
    response_status = NULL,
    response_headers = NULL,
    response_body = NULL,
    completed_at = NULL
WHERE id IN (
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = %(found_status)s
      AND (status <> 'in_progress' OR atomic OR lease_expires_at <= STATEMENT_TIMESTAMP())
    FOR NO KEY UPDATE SKIP LOCKED
);

-- delete_steps: Delete the steps of a record that another request takes over.
DELETE FROM "django_idempotency_idempotencystep"
WHERE record_id = %(id)s;

-- delete_envelope: Delete the stored request: it is finished, or another takes over.
DELETE FROM "django_idempotency_idempotencyenvelope"
WHERE record_id = %(id)s;

-- has_envelope: Ask whether a completer may finish the operation.
SELECT EXISTS(SELECT 1 FROM "django_idempotency_idempotencyenvelope" WHERE record_id = %(id)s);

-- is_unfinished: Ask whether an operation has begun that can be finished.
SELECT EXISTS(
    SELECT 1
    FROM "django_idempotency_idempotencystep"
    WHERE record_id = %(id)s
) OR EXISTS(SELECT 1 FROM "django_idempotency_idempotencyenvelope" WHERE record_id = %(id)s);

-- watch: Wait until the owner's transaction has ended. {...} are values, too.
SELECT pg_advisory_xact_lock_shared({lock});

-- django_idempotency.storage.steps.StepTexts
-- ------------------------------------------------------------------------------------------

-- load: Read all steps of an operation.
SELECT "name", "kind", "status", "attempt", "input_digest", "output", "codec", "error"
FROM "django_idempotency_idempotencystep"
WHERE record_id = %(id)s;

-- beat: Lock the row for a checkpoint and extend the lease; it waits for a lock.
UPDATE "django_idempotency_idempotencyrecord"
SET lease_expires_at = STATEMENT_TIMESTAMP() + %(lease)s::interval
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress';

-- beat_nowait: The same; it fails where the row is locked.
UPDATE "django_idempotency_idempotencyrecord"
SET lease_expires_at = STATEMENT_TIMESTAMP() + %(lease)s::interval
WHERE id IN (
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = 'in_progress'
    FOR NO KEY UPDATE NOWAIT
);

-- add: Record a step, if the claim is still the owner's.
INSERT INTO "django_idempotency_idempotencystep" (record_id, "name", "kind", "status", "attempt",
    "input_digest", "output", "codec", "error", token, started_at, completed_at)
SELECT
    id,
    %(name)s,
    %(kind)s,
    %(status)s,
    %(attempt)s::integer,
    %(input_digest)s::bytea,
    %(output)s::bytea,
    %(codec)s,
    %(error)s,
    token,
    STATEMENT_TIMESTAMP() + %(began)s::interval,
    CASE WHEN %(over)s THEN STATEMENT_TIMESTAMP() ELSE NULL END
FROM "django_idempotency_idempotencyrecord"
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress';

-- add_marked: The same in a transaction that began with a beat.
-- Here the same as add.

-- change: Record what became of a step that is not over.
UPDATE "django_idempotency_idempotencystep"
SET
    "status" = %(status)s,
    "attempt" = %(attempt)s::integer,
    "input_digest" = %(input_digest)s::bytea,
    "output" = %(output)s::bytea,
    "codec" = %(codec)s,
    "error" = %(error)s,
    token = %(owner)s::uuid,
    started_at = STATEMENT_TIMESTAMP() + %(began)s::interval,
    completed_at = CASE WHEN %(over)s THEN STATEMENT_TIMESTAMP() ELSE NULL END
WHERE record_id = %(id)s
  AND "name" = %(name)s
  AND status NOT IN ('completed', 'failed')
  AND EXISTS (
      SELECT 1
      FROM "django_idempotency_idempotencyrecord"
      WHERE id = %(id)s
        AND token = %(owner)s
        AND status = 'in_progress'
  );

-- change_marked: The same in a transaction that began with a beat.
-- Here the same as change.

-- django_idempotency.storage.upkeep.UpkeepTexts
-- ------------------------------------------------------------------------------------------

-- expire: Let a finished record expire.
UPDATE "django_idempotency_idempotencyrecord"
SET expires_at = STATEMENT_TIMESTAMP()
WHERE id = %(id)s
  AND status <> 'in_progress'
  AND expires_at > STATEMENT_TIMESTAMP();

-- free: Release a record whose owner is dead.
UPDATE "django_idempotency_idempotencyrecord"
SET status = 'released', error = %(error)s
WHERE id IN (
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = 'in_progress'
      AND (atomic OR lease_expires_at <= STATEMENT_TIMESTAMP())
    FOR NO KEY UPDATE SKIP LOCKED
);

-- delete: Delete one record that has expired.
DELETE FROM "django_idempotency_idempotencyrecord"
WHERE ctid = ANY(ARRAY(
    SELECT ctid
    FROM "django_idempotency_idempotencyrecord"
    WHERE id = %(id)s
      AND expires_at <= STATEMENT_TIMESTAMP()
      AND status <> 'in_progress'
      AND NOT EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencystep"
          WHERE "django_idempotency_idempotencystep".record_id =
              "django_idempotency_idempotencyrecord".id
      )
      AND NOT EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencyenvelope"
          WHERE "django_idempotency_idempotencyenvelope".record_id =
              "django_idempotency_idempotencyrecord".id
      )
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
  AND id = %(id)s
  AND expires_at <= STATEMENT_TIMESTAMP()
  AND status <> 'in_progress'
  AND NOT EXISTS (
      SELECT 1
      FROM "django_idempotency_idempotencystep"
      WHERE "django_idempotency_idempotencystep".record_id =
          "django_idempotency_idempotencyrecord".id
  )
  AND NOT EXISTS (
      SELECT 1
      FROM "django_idempotency_idempotencyenvelope"
      WHERE "django_idempotency_idempotencyenvelope".record_id =
          "django_idempotency_idempotencyrecord".id
  );

-- delete_parts: Delete its steps and its stored request, before that.
DELETE FROM "django_idempotency_idempotencystep"
WHERE record_id = ANY(ARRAY(
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE id = %(id)s
      AND expires_at <= STATEMENT_TIMESTAMP()
      AND status <> 'in_progress'
      AND EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencystep"
          WHERE "django_idempotency_idempotencystep".record_id =
              "django_idempotency_idempotencyrecord".id
      )
    FOR UPDATE SKIP LOCKED
));
DELETE FROM "django_idempotency_idempotencyenvelope"
WHERE record_id = ANY(ARRAY(
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE id = %(id)s
      AND expires_at <= STATEMENT_TIMESTAMP()
      AND status <> 'in_progress'
      AND EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencyenvelope"
          WHERE "django_idempotency_idempotencyenvelope".record_id =
              "django_idempotency_idempotencyrecord".id
      )
    FOR UPDATE SKIP LOCKED
));

-- moment: The database's time so long ago.
SELECT (STATEMENT_TIMESTAMP() + %(age)s::interval)::text;

-- edge: Where a window of expired records ends.
SELECT (expires_at)::text AS edge
FROM "django_idempotency_idempotencyrecord"
WHERE expires_at > %(low)s
  AND expires_at <= %(until)s
ORDER BY expires_at
LIMIT 1 OFFSET %(skip)s;

-- purge: Delete the records of a window that have no parts any more.
DELETE FROM "django_idempotency_idempotencyrecord"
WHERE ctid = ANY(ARRAY(
    SELECT ctid
    FROM "django_idempotency_idempotencyrecord"
    WHERE expires_at > %(low)s
      AND expires_at <= %(high)s
      AND expires_at <= STATEMENT_TIMESTAMP()
      AND status <> 'in_progress'
      AND NOT EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencystep"
          WHERE "django_idempotency_idempotencystep".record_id =
              "django_idempotency_idempotencyrecord".id
      )
      AND NOT EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencyenvelope"
          WHERE "django_idempotency_idempotencyenvelope".record_id =
              "django_idempotency_idempotencyrecord".id
      )
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
  AND expires_at > %(low)s
  AND expires_at <= %(high)s
  AND expires_at <= STATEMENT_TIMESTAMP()
  AND status <> 'in_progress'
  AND NOT EXISTS (
      SELECT 1
      FROM "django_idempotency_idempotencystep"
      WHERE "django_idempotency_idempotencystep".record_id =
          "django_idempotency_idempotencyrecord".id
  )
  AND NOT EXISTS (
      SELECT 1
      FROM "django_idempotency_idempotencyenvelope"
      WHERE "django_idempotency_idempotencyenvelope".record_id =
          "django_idempotency_idempotencyrecord".id
  );

-- purge_parts: Delete the parts of a window's records, before that.
DELETE FROM "django_idempotency_idempotencystep"
WHERE record_id = ANY(ARRAY(
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE expires_at > %(low)s
      AND expires_at <= %(high)s
      AND expires_at <= STATEMENT_TIMESTAMP()
      AND status <> 'in_progress'
      AND (status = 'completed' OR NOT EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencyenvelope"
          WHERE "django_idempotency_idempotencyenvelope".record_id =
              "django_idempotency_idempotencyrecord".id
      ))
      AND EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencystep"
          WHERE "django_idempotency_idempotencystep".record_id =
              "django_idempotency_idempotencyrecord".id
      )
    FOR UPDATE SKIP LOCKED
));
DELETE FROM "django_idempotency_idempotencyenvelope"
WHERE record_id = ANY(ARRAY(
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE expires_at > %(low)s
      AND expires_at <= %(high)s
      AND expires_at <= STATEMENT_TIMESTAMP()
      AND status <> 'in_progress'
      AND (status = 'completed' OR NOT EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencyenvelope"
          WHERE "django_idempotency_idempotencyenvelope".record_id =
              "django_idempotency_idempotencyrecord".id
      ))
      AND EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencyenvelope"
          WHERE "django_idempotency_idempotencyenvelope".record_id =
              "django_idempotency_idempotencyrecord".id
      )
    FOR UPDATE SKIP LOCKED
));

-- has_parts: Ask whether any operation has steps or a stored request.
SELECT (EXISTS(
    SELECT 1
    FROM "django_idempotency_idempotencystep"
) OR EXISTS(SELECT 1 FROM "django_idempotency_idempotencyenvelope"));

-- purge_bare: Delete the records of a window, if no operation has any parts.
DELETE FROM "django_idempotency_idempotencyrecord"
WHERE ctid = ANY(ARRAY(
    SELECT ctid
    FROM "django_idempotency_idempotencyrecord"
    WHERE expires_at > %(low)s
      AND expires_at <= %(high)s
      AND expires_at <= STATEMENT_TIMESTAMP()
      AND status <> 'in_progress'
      AND NOT (EXISTS(
          SELECT 1
          FROM "django_idempotency_idempotencystep"
      ) OR EXISTS(SELECT 1 FROM "django_idempotency_idempotencyenvelope"))
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
  AND expires_at > %(low)s
  AND expires_at <= %(high)s
  AND expires_at <= STATEMENT_TIMESTAMP()
  AND status <> 'in_progress'
  AND NOT (EXISTS(
      SELECT 1
      FROM "django_idempotency_idempotencystep"
  ) OR EXISTS(SELECT 1 FROM "django_idempotency_idempotencyenvelope"));

-- abandoned: Count the records of a window whose lease is over.
SELECT COUNT(*)
FROM "django_idempotency_idempotencyrecord"
WHERE expires_at > %(low)s
  AND expires_at <= %(high)s
  AND status = 'in_progress'
  AND lease_expires_at <= STATEMENT_TIMESTAMP();

-- purge_counts: Delete old counts.
DELETE FROM "django_idempotency_idempotencycount"
WHERE minute <= STATEMENT_TIMESTAMP() + %(age)s::interval;

-- scope_edge: Where a window of one caller's records ends.
SELECT id AS edge
FROM "django_idempotency_idempotencyrecord"
WHERE id > %(low)s
  AND scope = %(scope)s
  AND status <> 'in_progress'
ORDER BY id
LIMIT 1 OFFSET %(skip)s;

-- ids_of: The ids of such a window.
SELECT id
FROM "django_idempotency_idempotencyrecord"
WHERE scope = %(scope)s
  AND status <> 'in_progress'
  AND id > %(low)s
  AND id <= %(high)s;

-- scope_parts: Delete the parts of a caller's records, before the next two.
DELETE FROM "django_idempotency_idempotencystep"
WHERE record_id = ANY(ARRAY(
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE scope = %(scope)s
      AND status <> 'in_progress'
      AND id > %(low)s
      AND id <= %(high)s
      AND EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencystep"
          WHERE "django_idempotency_idempotencystep".record_id =
              "django_idempotency_idempotencyrecord".id
      )
    FOR UPDATE SKIP LOCKED
));
DELETE FROM "django_idempotency_idempotencyenvelope"
WHERE record_id = ANY(ARRAY(
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE scope = %(scope)s
      AND status <> 'in_progress'
      AND id > %(low)s
      AND id <= %(high)s
      AND EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencyenvelope"
          WHERE "django_idempotency_idempotencyenvelope".record_id =
              "django_idempotency_idempotencyrecord".id
      )
    FOR UPDATE SKIP LOCKED
));

-- erase_scope: Erase all personal data of a caller's records.
UPDATE "django_idempotency_idempotencyrecord"
SET
    "scope" = '',
    "key" = '',
    "method" = '',
    "path" = '',
    "error" = '',
    "response_codec" = '',
    fingerprint = %(fingerprint)s::bytea,
    response_headers = CASE WHEN status = 'completed'
      THEN %(response_headers)s::jsonb
      ELSE NULL END,
    response_body = NULL
WHERE id IN (
    SELECT id
    FROM "django_idempotency_idempotencyrecord"
    WHERE scope = %(scope)s
      AND status <> 'in_progress'
      AND id > %(low)s
      AND id <= %(high)s
      AND NOT EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencystep"
          WHERE "django_idempotency_idempotencystep".record_id =
              "django_idempotency_idempotencyrecord".id
      )
      AND NOT EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencyenvelope"
          WHERE "django_idempotency_idempotencyenvelope".record_id =
              "django_idempotency_idempotencyrecord".id
      )
    FOR NO KEY UPDATE SKIP LOCKED
);

-- delete_scope: Delete a caller's records.
DELETE FROM "django_idempotency_idempotencyrecord"
WHERE ctid = ANY(ARRAY(
    SELECT ctid
    FROM "django_idempotency_idempotencyrecord"
    WHERE scope = %(scope)s
      AND status <> 'in_progress'
      AND id > %(low)s
      AND id <= %(high)s
      AND NOT EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencystep"
          WHERE "django_idempotency_idempotencystep".record_id =
              "django_idempotency_idempotencyrecord".id
      )
      AND NOT EXISTS (
          SELECT 1
          FROM "django_idempotency_idempotencyenvelope"
          WHERE "django_idempotency_idempotencyenvelope".record_id =
              "django_idempotency_idempotencyrecord".id
      )
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
  AND scope = %(scope)s
  AND status <> 'in_progress'
  AND id > %(low)s
  AND id <= %(high)s
  AND NOT EXISTS (
      SELECT 1
      FROM "django_idempotency_idempotencystep"
      WHERE "django_idempotency_idempotencystep".record_id =
          "django_idempotency_idempotencyrecord".id
  )
  AND NOT EXISTS (
      SELECT 1
      FROM "django_idempotency_idempotencyenvelope"
      WHERE "django_idempotency_idempotencyenvelope".record_id =
          "django_idempotency_idempotencyrecord".id
  );

-- django_idempotency.storage.dialects.standard.Dialect
-- ------------------------------------------------------------------------------------------

-- probe: Ask whether the owner's transaction has ended, without touching the row.
SELECT pg_try_advisory_xact_lock_shared(%(lock)s);

-- unflushed: The first statement of a clean-up's transaction.
SET LOCAL synchronous_commit = off;

-- read_lock_wait: Read for how long a statement waits for a lock.
-- This database has none.

-- set_lock_wait: Set that.
SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true);

-- set_isolation: The first statement of a transaction that needs another level.
SET TRANSACTION ISOLATION LEVEL {};

-- table_bytes: The size of the table with its indexes, for the dashboard.
SELECT pg_total_relation_size(quote_ident(%(table)s)::regclass);

-- estimate: How many records of each status there are, for the dashboard.
SELECT c.reltuples, s.most_common_vals::text::text[], s.most_common_freqs
FROM pg_class c
LEFT JOIN pg_stats s ON s.schemaname = c.relnamespace::regnamespace::text
  AND s.tablename = c.relname
  AND s.attname = 'status'
WHERE c.oid = quote_ident(%(table)s)::regclass;
