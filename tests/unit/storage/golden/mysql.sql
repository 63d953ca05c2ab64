-- Every statement of django_idempotency on MySQL.

-- django_idempotency.storage.statements.Texts
-- ------------------------------------------------------------------------------------------

-- insert: Claim a key whose record has not been found.
INSERT INTO `django_idempotency_idempotencyrecord` (`id`, `scope`, `key`, `token`, `fingerprint`,
    `attempts`, `atomic`, `method`, `path`, `status`, `created_at`, `claimed_at`,
    `lease_expires_at`, `expires_at`, `error`, `response_codec`)
VALUES (%(id)s, %(scope)s, %(key)s, %(token)s, %(fingerprint)s, %(attempts)s, %(atomic)s,
    %(method)s, %(path)s, 'in_progress', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) +
    INTERVAL %(lease)s MICROSECOND, UTC_TIMESTAMP(6) + INTERVAL %(life)s MICROSECOND, '', '');

-- claim_joined: Claim a key in the caller's transaction, and read what was there.
-- This database has none.

-- claim: Claim a key, read what was there, and probe its owner's lock.
-- This database has none.

-- claim_unflushed: The same for an atomic view, whose COMMIT flushes for both.
-- This database has none.

-- claim_prepared: The same as one statement, which can be prepared.
-- This database has none.

-- claim_prepared_unflushed: That one for an atomic view.
-- This database has none.

-- heartbeat: The view's transaction locks the row; it waits for a lock.
UPDATE `django_idempotency_idempotencyrecord`
SET error = 'begun'
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress';

-- heartbeat_nowait: The same; it fails where the row is locked.
UPDATE (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = 'in_progress'
    FOR UPDATE NOWAIT
) AS free
STRAIGHT_JOIN `django_idempotency_idempotencyrecord` FORCE INDEX (PRIMARY) ON
    `django_idempotency_idempotencyrecord`.id = free.id
SET error = 'begun';

-- read: Read a record.
SELECT
    fingerprint,
    status,
    token,
    attempts,
    atomic,
    TIMESTAMPDIFF(MICROSECOND, claimed_at, UTC_TIMESTAMP(6)) / 1000000,
    lease_expires_at <= UTC_TIMESTAMP(6),
    TIMESTAMPDIFF(MICROSECOND, expires_at, UTC_TIMESTAMP(6)) / 1000000,
    FALSE,
    NULL,
    response_status,
    response_headers,
    response_body,
    response_codec
FROM `django_idempotency_idempotencyrecord`
WHERE id = %(id)s;

-- complete: Save the response, where the attempt does not hold the row.
UPDATE `django_idempotency_idempotencyrecord`
SET
    status = 'completed',
    error = '',
    completed_at = UTC_TIMESTAMP(6),
    response_status = %(response_status)s,
    response_headers = %(response_headers)s,
    response_body = %(response_body)s,
    response_codec = %(response_codec)s,
    expires_at = CASE WHEN expires_at < UTC_TIMESTAMP(6) + INTERVAL %(retention)s MICROSECOND
      THEN UTC_TIMESTAMP(6) + INTERVAL %(retention)s MICROSECOND
      ELSE expires_at END
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress';

-- complete_marked: Save the response, where the attempt holds the row.
UPDATE `django_idempotency_idempotencyrecord`
SET
    status = 'completed',
    error = '',
    completed_at = UTC_TIMESTAMP(6),
    response_status = %(response_status)s,
    response_headers = %(response_headers)s,
    response_body = %(response_body)s,
    response_codec = %(response_codec)s,
    expires_at = CASE WHEN expires_at < UTC_TIMESTAMP(6) + INTERVAL %(retention)s MICROSECOND
      THEN UTC_TIMESTAMP(6) + INTERVAL %(retention)s MICROSECOND
      ELSE expires_at END
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress'
  AND error = 'begun';

-- complete_fenced: The same, sent together with COMMIT: it fails if the claim is lost.
-- This database has none.

-- release: Free the key of an attempt that was no outcome, beside its writes.
UPDATE `django_idempotency_idempotencyrecord`
SET status = 'released', error = '', attempts = attempts - 1
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress';

-- release_marked: The same, where the attempt holds the row.
UPDATE `django_idempotency_idempotencyrecord`
SET status = 'released', error = '', attempts = attempts - 1
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress'
  AND error = 'begun';

-- release_fenced: The same, sent together with COMMIT.
-- This database has none.

-- release_late: Free the key after a rollback.
UPDATE (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = 'in_progress'
    FOR UPDATE SKIP LOCKED
) AS free
STRAIGHT_JOIN `django_idempotency_idempotencyrecord` FORCE INDEX (PRIMARY) ON
    `django_idempotency_idempotencyrecord`.id = free.id
SET status = 'released', error = %(error)s;

-- take: Take over a record that was released, has expired, or whose owner is dead.
UPDATE (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = %(found_status)s
      AND (status <> 'in_progress' OR atomic OR lease_expires_at <= UTC_TIMESTAMP(6))
    FOR UPDATE SKIP LOCKED
) AS free
STRAIGHT_JOIN `django_idempotency_idempotencyrecord` FORCE INDEX (PRIMARY) ON
    `django_idempotency_idempotencyrecord`.id = free.id
SET
    `scope` = %(scope)s,
    `key` = %(key)s,
    `token` = %(token)s,
    `fingerprint` = %(fingerprint)s,
    `attempts` = %(attempts)s,
    `atomic` = %(atomic)s,
    `method` = %(method)s,
    `path` = %(path)s,
    status = 'in_progress',
    claimed_at = UTC_TIMESTAMP(6),
    lease_expires_at = UTC_TIMESTAMP(6) + INTERVAL %(lease)s MICROSECOND,
    expires_at = UTC_TIMESTAMP(6) + INTERVAL %(life)s MICROSECOND,
    error = '',
    response_codec = '',
    created_at = CASE WHEN %(anew)s THEN UTC_TIMESTAMP(6) ELSE created_at END,
    response_status = NULL,
    response_headers = NULL,
    response_body = NULL,
    completed_at = NULL;

-- delete_steps: Delete the steps of a record that another request takes over.
DELETE FROM `django_idempotency_idempotencystep`
WHERE record_id = %(id)s;

-- delete_envelope: Delete the stored request: it is finished, or another takes over.
DELETE FROM `django_idempotency_idempotencyenvelope`
WHERE record_id = %(id)s;

-- has_envelope: Ask whether a completer may finish the operation.
SELECT EXISTS(SELECT 1 FROM `django_idempotency_idempotencyenvelope` WHERE record_id = %(id)s);

-- is_unfinished: Ask whether an operation has begun that can be finished.
SELECT EXISTS(
    SELECT 1
    FROM `django_idempotency_idempotencystep`
    WHERE record_id = %(id)s
) OR EXISTS(SELECT 1 FROM `django_idempotency_idempotencyenvelope` WHERE record_id = %(id)s);

-- watch: Wait until the owner's transaction has ended. {...} are values, too.
SELECT 1
FROM `django_idempotency_idempotencyrecord`
WHERE id = '{id}'
  AND token = '{owner}'
  AND status = 'in_progress' LOCK IN SHARE MODE;

-- django_idempotency.storage.steps.StepTexts
-- ------------------------------------------------------------------------------------------

-- load: Read all steps of an operation.
SELECT `name`, `kind`, `status`, `attempt`, `input_digest`, `output`, `codec`, `error`
FROM `django_idempotency_idempotencystep`
WHERE record_id = %(id)s;

-- beat: Lock the row for a checkpoint and extend the lease; it waits for a lock.
UPDATE `django_idempotency_idempotencyrecord`
SET lease_expires_at = UTC_TIMESTAMP(6) + INTERVAL %(lease)s MICROSECOND, error = %(mark)s
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress';

-- beat_nowait: The same; it fails where the row is locked.
UPDATE (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = 'in_progress'
    FOR UPDATE NOWAIT
) AS free
STRAIGHT_JOIN `django_idempotency_idempotencyrecord` FORCE INDEX (PRIMARY) ON
    `django_idempotency_idempotencyrecord`.id = free.id
SET lease_expires_at = UTC_TIMESTAMP(6) + INTERVAL %(lease)s MICROSECOND, error = %(mark)s;

-- add: Record a step, if the claim is still the owner's.
INSERT INTO `django_idempotency_idempotencystep` (record_id, `name`, `kind`, `status`, `attempt`,
    `input_digest`, `output`, `codec`, `error`, token, started_at, completed_at)
SELECT
    id,
    %(name)s,
    %(kind)s,
    %(status)s,
    %(attempt)s,
    %(input_digest)s,
    %(output)s,
    %(codec)s,
    %(error)s,
    token,
    UTC_TIMESTAMP(6) + INTERVAL %(began)s MICROSECOND,
    CASE WHEN %(over)s THEN UTC_TIMESTAMP(6) ELSE NULL END
FROM `django_idempotency_idempotencyrecord`
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress';

-- add_marked: The same in a transaction that began with a beat.
INSERT INTO `django_idempotency_idempotencystep` (record_id, `name`, `kind`, `status`, `attempt`,
    `input_digest`, `output`, `codec`, `error`, token, started_at, completed_at)
SELECT
    id,
    %(name)s,
    %(kind)s,
    %(status)s,
    %(attempt)s,
    %(input_digest)s,
    %(output)s,
    %(codec)s,
    %(error)s,
    token,
    UTC_TIMESTAMP(6) + INTERVAL %(began)s MICROSECOND,
    CASE WHEN %(over)s THEN UTC_TIMESTAMP(6) ELSE NULL END
FROM `django_idempotency_idempotencyrecord`
WHERE id = %(id)s
  AND token = %(owner)s
  AND status = 'in_progress'
  AND error = %(mark)s;

-- change: Record what became of a step that is not over.
UPDATE `django_idempotency_idempotencystep`
SET
    `status` = %(status)s,
    `attempt` = %(attempt)s,
    `input_digest` = %(input_digest)s,
    `output` = %(output)s,
    `codec` = %(codec)s,
    `error` = %(error)s,
    token = %(owner)s,
    started_at = UTC_TIMESTAMP(6) + INTERVAL %(began)s MICROSECOND,
    completed_at = CASE WHEN %(over)s THEN UTC_TIMESTAMP(6) ELSE NULL END
WHERE record_id = %(id)s
  AND `name` = %(name)s
  AND status NOT IN ('completed', 'failed')
  AND EXISTS (
      SELECT 1
      FROM `django_idempotency_idempotencyrecord`
      WHERE id = %(id)s
        AND token = %(owner)s
        AND status = 'in_progress'
  );

-- change_marked: The same in a transaction that began with a beat.
UPDATE `django_idempotency_idempotencystep`
SET
    `status` = %(status)s,
    `attempt` = %(attempt)s,
    `input_digest` = %(input_digest)s,
    `output` = %(output)s,
    `codec` = %(codec)s,
    `error` = %(error)s,
    token = %(owner)s,
    started_at = UTC_TIMESTAMP(6) + INTERVAL %(began)s MICROSECOND,
    completed_at = CASE WHEN %(over)s THEN UTC_TIMESTAMP(6) ELSE NULL END
WHERE record_id = %(id)s
  AND `name` = %(name)s
  AND status NOT IN ('completed', 'failed')
  AND EXISTS (
      SELECT 1
      FROM `django_idempotency_idempotencyrecord`
      WHERE id = %(id)s
        AND token = %(owner)s
        AND status = 'in_progress'
        AND error = %(mark)s
  );

-- django_idempotency.storage.upkeep.UpkeepTexts
-- ------------------------------------------------------------------------------------------

-- expire: Let a finished record expire.
UPDATE `django_idempotency_idempotencyrecord`
SET expires_at = UTC_TIMESTAMP(6)
WHERE id = %(id)s
  AND status <> 'in_progress'
  AND expires_at > UTC_TIMESTAMP(6);

-- free: Release a record whose owner is dead.
UPDATE (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE id = %(id)s
      AND token = %(owner)s
      AND status = 'in_progress'
      AND (atomic OR lease_expires_at <= UTC_TIMESTAMP(6))
    FOR UPDATE SKIP LOCKED
) AS free
STRAIGHT_JOIN `django_idempotency_idempotencyrecord` FORCE INDEX (PRIMARY) ON
    `django_idempotency_idempotencyrecord`.id = free.id
SET status = 'released', error = %(error)s;

-- delete: Delete one record that has expired.
DELETE `django_idempotency_idempotencyrecord`
FROM (
    SELECT id AS free_id
    FROM `django_idempotency_idempotencyrecord`
    WHERE id = %(id)s
      AND expires_at <= UTC_TIMESTAMP(6)
      AND status <> 'in_progress'
      AND NOT EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencystep`
          WHERE `django_idempotency_idempotencystep`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
      AND NOT EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencyenvelope`
          WHERE `django_idempotency_idempotencyenvelope`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS free
STRAIGHT_JOIN `django_idempotency_idempotencyrecord` FORCE INDEX (PRIMARY) ON
    `django_idempotency_idempotencyrecord`.id = free.free_id
WHERE id = %(id)s
  AND expires_at <= UTC_TIMESTAMP(6)
  AND status <> 'in_progress'
  AND NOT EXISTS (
      SELECT 1
      FROM `django_idempotency_idempotencystep`
      WHERE `django_idempotency_idempotencystep`.record_id =
          `django_idempotency_idempotencyrecord`.id
  )
  AND NOT EXISTS (
      SELECT 1
      FROM `django_idempotency_idempotencyenvelope`
      WHERE `django_idempotency_idempotencyenvelope`.record_id =
          `django_idempotency_idempotencyrecord`.id
  );

-- delete_parts: Delete its steps and its stored request, before that.
DELETE `django_idempotency_idempotencystep`
FROM (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE id = %(id)s
      AND expires_at <= UTC_TIMESTAMP(6)
      AND status <> 'in_progress'
      AND EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencystep`
          WHERE `django_idempotency_idempotencystep`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
    FOR UPDATE SKIP LOCKED
) AS owners
STRAIGHT_JOIN `django_idempotency_idempotencystep` ON
    `django_idempotency_idempotencystep`.record_id = owners.id;
DELETE `django_idempotency_idempotencyenvelope`
FROM (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE id = %(id)s
      AND expires_at <= UTC_TIMESTAMP(6)
      AND status <> 'in_progress'
      AND EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencyenvelope`
          WHERE `django_idempotency_idempotencyenvelope`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
    FOR UPDATE SKIP LOCKED
) AS owners
STRAIGHT_JOIN `django_idempotency_idempotencyenvelope` ON
    `django_idempotency_idempotencyenvelope`.record_id = owners.id;

-- moment: The database's time so long ago.
SELECT UTC_TIMESTAMP(6) + INTERVAL %(age)s MICROSECOND;

-- edge: Where a window of expired records ends.
SELECT expires_at AS edge
FROM `django_idempotency_idempotencyrecord`
WHERE expires_at > %(low)s
  AND expires_at <= %(until)s
ORDER BY expires_at
LIMIT 1 OFFSET %(skip)s;

-- purge: Delete the records of a window that have no parts any more.
DELETE `django_idempotency_idempotencyrecord`
FROM (
    SELECT id AS free_id
    FROM `django_idempotency_idempotencyrecord`
    WHERE expires_at > %(low)s
      AND expires_at <= %(high)s
      AND expires_at <= UTC_TIMESTAMP(6)
      AND status <> 'in_progress'
      AND NOT EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencystep`
          WHERE `django_idempotency_idempotencystep`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
      AND NOT EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencyenvelope`
          WHERE `django_idempotency_idempotencyenvelope`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS free
STRAIGHT_JOIN `django_idempotency_idempotencyrecord` FORCE INDEX (PRIMARY) ON
    `django_idempotency_idempotencyrecord`.id = free.free_id
WHERE expires_at > %(low)s
  AND expires_at <= %(high)s
  AND expires_at <= UTC_TIMESTAMP(6)
  AND status <> 'in_progress'
  AND NOT EXISTS (
      SELECT 1
      FROM `django_idempotency_idempotencystep`
      WHERE `django_idempotency_idempotencystep`.record_id =
          `django_idempotency_idempotencyrecord`.id
  )
  AND NOT EXISTS (
      SELECT 1
      FROM `django_idempotency_idempotencyenvelope`
      WHERE `django_idempotency_idempotencyenvelope`.record_id =
          `django_idempotency_idempotencyrecord`.id
  );

-- purge_parts: Delete the parts of a window's records, before that.
DELETE `django_idempotency_idempotencystep`
FROM (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE expires_at > %(low)s
      AND expires_at <= %(high)s
      AND expires_at <= UTC_TIMESTAMP(6)
      AND status <> 'in_progress'
      AND (status = 'completed' OR NOT EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencyenvelope`
          WHERE `django_idempotency_idempotencyenvelope`.record_id =
              `django_idempotency_idempotencyrecord`.id
      ))
      AND EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencystep`
          WHERE `django_idempotency_idempotencystep`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
    FOR UPDATE SKIP LOCKED
) AS owners
STRAIGHT_JOIN `django_idempotency_idempotencystep` ON
    `django_idempotency_idempotencystep`.record_id = owners.id;
DELETE `django_idempotency_idempotencyenvelope`
FROM (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE expires_at > %(low)s
      AND expires_at <= %(high)s
      AND expires_at <= UTC_TIMESTAMP(6)
      AND status <> 'in_progress'
      AND (status = 'completed' OR NOT EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencyenvelope`
          WHERE `django_idempotency_idempotencyenvelope`.record_id =
              `django_idempotency_idempotencyrecord`.id
      ))
      AND EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencyenvelope`
          WHERE `django_idempotency_idempotencyenvelope`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
    FOR UPDATE SKIP LOCKED
) AS owners
STRAIGHT_JOIN `django_idempotency_idempotencyenvelope` ON
    `django_idempotency_idempotencyenvelope`.record_id = owners.id;

-- has_parts: Ask whether any operation has steps or a stored request.
SELECT (EXISTS(
    SELECT 1
    FROM `django_idempotency_idempotencystep`
) OR EXISTS(SELECT 1 FROM `django_idempotency_idempotencyenvelope`));

-- purge_bare: Delete the records of a window, if no operation has any parts.
DELETE `django_idempotency_idempotencyrecord`
FROM (
    SELECT id AS free_id
    FROM `django_idempotency_idempotencyrecord`
    WHERE expires_at > %(low)s
      AND expires_at <= %(high)s
      AND expires_at <= UTC_TIMESTAMP(6)
      AND status <> 'in_progress'
      AND NOT (EXISTS(
          SELECT 1
          FROM `django_idempotency_idempotencystep`
      ) OR EXISTS(SELECT 1 FROM `django_idempotency_idempotencyenvelope`))
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS free
STRAIGHT_JOIN `django_idempotency_idempotencyrecord` FORCE INDEX (PRIMARY) ON
    `django_idempotency_idempotencyrecord`.id = free.free_id
WHERE expires_at > %(low)s
  AND expires_at <= %(high)s
  AND expires_at <= UTC_TIMESTAMP(6)
  AND status <> 'in_progress'
  AND NOT (EXISTS(
      SELECT 1
      FROM `django_idempotency_idempotencystep`
  ) OR EXISTS(SELECT 1 FROM `django_idempotency_idempotencyenvelope`));

-- abandoned: Count the records of a window whose lease is over.
SELECT COUNT(*)
FROM `django_idempotency_idempotencyrecord`
WHERE expires_at > %(low)s
  AND expires_at <= %(high)s
  AND status = 'in_progress'
  AND lease_expires_at <= UTC_TIMESTAMP(6);

-- purge_counts: Delete old counts.
DELETE FROM `django_idempotency_idempotencycount`
WHERE minute <= UTC_TIMESTAMP(6) + INTERVAL %(age)s MICROSECOND;

-- scope_edge: Where a window of one caller's records ends.
SELECT id AS edge
FROM `django_idempotency_idempotencyrecord`
WHERE id > %(low)s
  AND scope = %(scope)s
  AND status <> 'in_progress'
ORDER BY id
LIMIT 1 OFFSET %(skip)s;

-- ids_of: The ids of such a window.
SELECT id
FROM `django_idempotency_idempotencyrecord`
WHERE scope = %(scope)s
  AND status <> 'in_progress'
  AND id > %(low)s
  AND id <= %(high)s;

-- scope_parts: Delete the parts of a caller's records, before the next two.
DELETE `django_idempotency_idempotencystep`
FROM (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE scope = %(scope)s
      AND status <> 'in_progress'
      AND id > %(low)s
      AND id <= %(high)s
      AND EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencystep`
          WHERE `django_idempotency_idempotencystep`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
    FOR UPDATE SKIP LOCKED
) AS owners
STRAIGHT_JOIN `django_idempotency_idempotencystep` ON
    `django_idempotency_idempotencystep`.record_id = owners.id;
DELETE `django_idempotency_idempotencyenvelope`
FROM (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE scope = %(scope)s
      AND status <> 'in_progress'
      AND id > %(low)s
      AND id <= %(high)s
      AND EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencyenvelope`
          WHERE `django_idempotency_idempotencyenvelope`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
    FOR UPDATE SKIP LOCKED
) AS owners
STRAIGHT_JOIN `django_idempotency_idempotencyenvelope` ON
    `django_idempotency_idempotencyenvelope`.record_id = owners.id;

-- erase_scope: Erase all personal data of a caller's records.
UPDATE (
    SELECT id
    FROM `django_idempotency_idempotencyrecord`
    WHERE scope = %(scope)s
      AND status <> 'in_progress'
      AND id > %(low)s
      AND id <= %(high)s
      AND NOT EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencystep`
          WHERE `django_idempotency_idempotencystep`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
      AND NOT EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencyenvelope`
          WHERE `django_idempotency_idempotencyenvelope`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
    FOR UPDATE SKIP LOCKED
) AS free
STRAIGHT_JOIN `django_idempotency_idempotencyrecord` FORCE INDEX (PRIMARY) ON
    `django_idempotency_idempotencyrecord`.id = free.id
SET
    `scope` = '',
    `key` = '',
    `method` = '',
    `path` = '',
    `error` = '',
    `response_codec` = '',
    fingerprint = %(fingerprint)s,
    response_headers = CASE WHEN status = 'completed' THEN %(response_headers)s ELSE NULL END,
    response_body = NULL;

-- delete_scope: Delete a caller's records.
DELETE `django_idempotency_idempotencyrecord`
FROM (
    SELECT id AS free_id
    FROM `django_idempotency_idempotencyrecord`
    WHERE scope = %(scope)s
      AND status <> 'in_progress'
      AND id > %(low)s
      AND id <= %(high)s
      AND NOT EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencystep`
          WHERE `django_idempotency_idempotencystep`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
      AND NOT EXISTS (
          SELECT 1
          FROM `django_idempotency_idempotencyenvelope`
          WHERE `django_idempotency_idempotencyenvelope`.record_id =
              `django_idempotency_idempotencyrecord`.id
      )
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS free
STRAIGHT_JOIN `django_idempotency_idempotencyrecord` FORCE INDEX (PRIMARY) ON
    `django_idempotency_idempotencyrecord`.id = free.free_id
WHERE scope = %(scope)s
  AND status <> 'in_progress'
  AND id > %(low)s
  AND id <= %(high)s
  AND NOT EXISTS (
      SELECT 1
      FROM `django_idempotency_idempotencystep`
      WHERE `django_idempotency_idempotencystep`.record_id =
          `django_idempotency_idempotencyrecord`.id
  )
  AND NOT EXISTS (
      SELECT 1
      FROM `django_idempotency_idempotencyenvelope`
      WHERE `django_idempotency_idempotencyenvelope`.record_id =
          `django_idempotency_idempotencyrecord`.id
  );

-- django_idempotency.storage.dialects.standard.Dialect
-- ------------------------------------------------------------------------------------------

-- probe: Ask whether the owner's transaction has ended, without touching the row.
-- This database has none.

-- unflushed: The first statement of a clean-up's transaction.
-- This database has none.

-- read_lock_wait: Read for how long a statement waits for a lock.
SELECT @@innodb_lock_wait_timeout;

-- set_lock_wait: Set that.
SET SESSION innodb_lock_wait_timeout = %s;

-- set_isolation: The first statement of a transaction that needs another level.
-- This database has none.

-- table_bytes: The size of the table with its indexes, for the dashboard.
SELECT data_length + index_length
FROM information_schema.tables
WHERE table_schema = DATABASE()
  AND table_name = %(table)s;

-- estimate: How many records of each status there are, for the dashboard.
-- This database has none.
