-- Fills the labeller database of a sandbox: the grid, accounts, and an old run with its maps, so
-- that there is something to lose. Everything follows from the settings runbook.seed,
-- runbook.bucket and runbook.old_aoi and from the temporary tables that seed.py loads before:
-- runs (row, first, last) of the grid and aoi_runs (aoi, row, first, last) of each area.

-- A number in 0 .. 2^60 that is always the same for the same key and seed.
CREATE FUNCTION pg_temp.draw(key text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT ('x' || left(md5(current_setting('runbook.seed') || ':' || key), 15))::bit(60)::bigint
$$;

-- gid, ordinal of the name and raster number (id, as in the continent's raster) all differ in the
-- real grid; here gid and ordinal agree, and id does not, so that mixing them up shows.
CREATE TEMPORARY TABLE cells AS
SELECT n AS gid, 4000000 + n AS id, 'GH' || lpad(n::text, 7, '0') AS name, "row", col,
       pg_temp.draw('cell' || n) AS drawn
FROM (SELECT row_number() OVER (ORDER BY "row", col)::integer AS n, "row", col
      FROM runs, generate_series(first, last) AS col) AS numbered;
CREATE UNIQUE INDEX ON cells ("row", col);
ANALYZE cells;

CREATE TEMPORARY TABLE aoi_cells AS
SELECT aoi, gid, id, name, drawn
FROM (SELECT aoi, "row", col FROM aoi_runs, generate_series(first, last) AS col) AS inside
JOIN cells USING ("row", col);
ANALYZE aoi_cells;

-- About one cell in seventy lacks a season's scene, or both.
CREATE TEMPORARY VIEW catalogue AS
SELECT 'planet' AS provider, format('%s_%s_2018', tile, season) AS scene_id, id AS cell_id,
       season, col AS global_col, "row" AS global_row,
       format('s3://%s/planet/%s/%s.tif', current_setting('runbook.bucket'), season, tile)
           AS url,
       format('tiles/%s/%s/{z}/{x}/{y}', season, tile) AS tms_url,
       first_day + make_interval(days => tile % 60) AS date_time
FROM (SELECT id, drawn, "row", col, "row" / 10 * 2000 + col / 10 AS tile FROM cells) AS tiled
CROSS JOIN (VALUES ('GS', timestamptz '2018-05-01 10:00:00Z', 1),
                   ('OS', timestamptz '2018-12-01 10:00:00Z', 2)) AS seasons (season, first_day, bit)
WHERE drawn % 210 >= 3 OR (drawn % 210 + 1) & bit = 0;

CREATE TEMPORARY VIEW complete_cells AS
SELECT * FROM cells WHERE drawn % 210 >= 3;

INSERT INTO kml_data_static (kml_type, name, hint)
SELECT CASE WHEN number <= 8 THEN 'I' ELSE 'Q' END, name,
       CASE WHEN number <= 8 THEN 'Training cell ' || number END
FROM (SELECT name, row_number() OVER (ORDER BY drawn / 210, gid) AS number
      FROM complete_cells) AS shuffled
WHERE number <= 106
ORDER BY number;

-- Static training names: some inside each area, some in none.
CREATE TEMPORARY TABLE training AS
SELECT name FROM (
    SELECT name, row_number() OVER (PARTITION BY aoi ORDER BY pg_temp.draw('train' || gid)) AS number
    FROM aoi_cells WHERE drawn % 210 >= 3 AND drawn % 20 = 7
) AS inside WHERE number <= 3
UNION
(SELECT name FROM complete_cells
 WHERE drawn % 20 = 7 AND NOT EXISTS (SELECT FROM aoi_cells WHERE aoi_cells.gid = complete_cells.gid)
 ORDER BY pg_temp.draw('train' || gid) LIMIT 10);
DELETE FROM training USING kml_data_static WHERE kml_data_static.name = training.name;

-- The old run: sites of the old area, 100 to validate and 20 in each of three iterations to train.
CREATE TEMPORARY TABLE sites AS
SELECT name, id, gid, number, (greatest(number - 81, 0) / 20)::integer AS iteration,
       number <= 152 AS processed
FROM (SELECT aoi_cells.*, row_number() OVER (ORDER BY pg_temp.draw('site' || gid)) AS number
      FROM aoi_cells
      WHERE aoi = current_setting('runbook.old_aoi')::integer AND drawn % 210 >= 3
        AND name NOT IN (SELECT name FROM kml_data_static)
        AND name NOT IN (SELECT name FROM training)) AS shuffled
WHERE number <= 160;

INSERT INTO master_grid (gid, id, x, y, name, fwts, avail, date)
SELECT cells.gid, cells.id, round((-17.5385 + col * 0.005)::numeric, 4),
       round((37.5375 - "row" * 0.005)::numeric, 4), cells.name, 1 + drawn % 10,
       CASE WHEN kml_type IS NOT NULL THEN kml_type
            WHEN old.gid IS NOT NULL THEN 'F'
            WHEN drawn % 977 = 0 THEN 'N'
            ELSE 'T' END,
       '2018-12-01'
FROM cells
LEFT JOIN kml_data_static ON kml_data_static.name = cells.name
LEFT JOIN (SELECT gid FROM aoi_cells WHERE aoi = current_setting('runbook.old_aoi')::integer) AS old
    ON old.gid = cells.gid
ORDER BY cells.gid;
SELECT setval('master_grid_gid_seq1', (SELECT max(gid) FROM master_grid));

INSERT INTO scenes_data
SELECT * FROM catalogue
WHERE cell_id IN (SELECT id FROM aoi_cells WHERE aoi = current_setting('runbook.old_aoi')::integer)
ORDER BY cell_id, season;

-- Reference polygons: none, one or two for each Q and I cell; in its centre, a fifth of its width.
CREATE FUNCTION pg_temp.square(x double precision, y double precision, shift double precision)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT format('SRID=4326;POLYGON((%1$s %2$s,%3$s %2$s,%3$s %4$s,%1$s %4$s,%1$s %2$s))',
                  round((x + shift - 0.0005)::numeric, 6), round((y + shift - 0.0005)::numeric, 6),
                  round((x + shift + 0.0005)::numeric, 6), round((y + shift + 0.0005)::numeric, 6))
$$;

INSERT INTO qaqcfields (name, category, geom_clean)
SELECT kml_data_static.name, 'field', pg_temp.square(x, y, n * 0.001)
FROM kml_data_static
JOIN master_grid ON master_grid.name = kml_data_static.name
CROSS JOIN LATERAL generate_series(1, (master_grid.gid % 3)::integer) AS n
ORDER BY kml_data_static.gid, n;

INSERT INTO categories VALUES
    ('field', 'Annual cropland', true, 1, 'field'),
    ('fallow', 'Fallow cropland', false, 2, 'field'),
    ('tree', 'Tree crops', false, 3, 'nofield'),
    ('pasture', 'Improved pasture', false, 4, 'nofield'),
    ('unsure1', 'Probably a field', false, 5, 'unsure'),
    ('unsure2', 'Probably no field', false, 6, 'unsure');

INSERT INTO machine_maps (name, geom)
SELECT name, pg_temp.square(x, y, 0)
FROM master_grid WHERE gid IN (SELECT gid FROM sites WHERE number <= 5) ORDER BY gid;

-- Accounts and workers

INSERT INTO users (email, password, confirmed_at, active, first_name, last_name, country)
SELECT format('worker%s@example.org', n), '$2b$12$' || md5('password' || pg_temp.draw('user' || n)),
       timestamp '2018-01-01' + make_interval(days => n), true, 'Worker', format('Number %s', n),
       'Ghana'
FROM generate_series(1, 300) AS n;
INSERT INTO roles (name, label) VALUES
    ('admin', 'Administrator'), ('employer', 'Employer'), ('employee', 'Employee');
INSERT INTO users_roles (user_id, role_id)
SELECT id, CASE WHEN id = 1 THEN 1 WHEN id <= 5 THEN 2 ELSE 3 END FROM users ORDER BY id;
INSERT INTO user_invites (email, invited_by, role, token)
SELECT format('invited%s@example.org', n), 1, 'employee', md5('token' || pg_temp.draw('invite' || n))
FROM generate_series(1, 10) AS n;

INSERT INTO worker_data (worker_id, first_time, last_time, scores, returns, qualified, bonus_paid,
                         random_state)
SELECT id, timestamptz '2018-01-02 08:00:00Z' + make_interval(days => id),
       timestamptz '2019-03-01 08:00:00Z' + make_interval(hours => id),
       ARRAY(SELECT (0.4 + pg_temp.draw(format('score%s/%s', id, n)) % 60 / 100.0)::real
             FROM generate_series(1, 5) AS n),
       ARRAY(SELECT (pg_temp.draw(format('return%s/%s', id, n)) % 20 = 0)::integer::real
             FROM generate_series(1, 10) AS n),
       id % 9 <> 0, id % 4 <> 0, md5('state' || pg_temp.draw('worker' || id))
FROM users ORDER BY id;

-- Work of the old run. Identifiers go on where the image that the instance was cloned from left.

SELECT setval('hit_data_hit_id_seq', 9800), setval('assignment_data_assignment_id_seq', 12300),
       setval('user_maps_gid_seq', 30500), setval('qual_assignment_data_assignment_id_seq', 2100),
       setval('qual_user_maps_gid_seq', 4100);

INSERT INTO kml_data (kml_type, name, hint)
SELECT kml_type, name, hint FROM kml_data_static ORDER BY gid;
INSERT INTO kml_data (kml_type, name, mapped_count, mappers_needed, consensus_conflict)
SELECT 'F', name, CASE WHEN processed THEN 5 ELSE number % 4 END,
       CASE WHEN processed OR number % 4 > 0 THEN 5 END,
       CASE WHEN processed THEN (pg_temp.draw('conflict' || gid) % 40 / 100.0)::real END
FROM sites ORDER BY number;

INSERT INTO iteration_metrics (run, iteration, tss, accuracy, aoi, iteration_time, precision, recall,
                               fpr, tpr, auc)
SELECT 90, n, CASE WHEN n > 0 THEN 0.30 + n * 0.06 END, CASE WHEN n > 0 THEN 0.68 + n * 0.04 END,
       current_setting('runbook.old_aoi'), timestamptz '2019-02-01 12:00:00Z' + make_interval(days => n * 7),
       CASE WHEN n > 0 THEN 0.60 + n * 0.03 END, CASE WHEN n > 0 THEN 0.55 + n * 0.05 END,
       CASE WHEN n > 0 THEN 0.25 - n * 0.02 END, CASE WHEN n > 0 THEN 0.55 + n * 0.05 END,
       CASE WHEN n > 0 THEN 0.70 + n * 0.04 END
FROM generate_series(0, 3) AS n;

INSERT INTO incoming_names (name, run, iteration, processed, usage, label)
SELECT name, 90, iteration, processed, CASE WHEN iteration = 0 THEN 'validate' ELSE 'train' END,
       processed AND number % 31 <> 0
FROM sites ORDER BY number;

-- One HIT for each F site; two rounds of Q cells, the last twenty of the second still open.
INSERT INTO hit_data (name, create_time, delete_time, max_assignments, duration, reward)
SELECT name, started, CASE WHEN NOT open THEN started + interval '3 days' END, assignments, 86400,
       5 + drawn % 40
FROM (
    SELECT kml_data.name, n, gid, kml_type = 'F' AND mapped_count < 5 OR n = 2 AND gid > 86 AS open,
           CASE WHEN kml_type = 'F' THEN 5 ELSE 1 END AS assignments,
           timestamptz '2019-02-01 09:00:00Z' + make_interval(hours => gid + n * 12) AS started,
           pg_temp.draw(format('hit%s/%s', name, n)) AS drawn
    FROM kml_data, generate_series(1, CASE WHEN kml_type = 'Q' THEN 2 ELSE 1 END) AS n
    WHERE kml_type <> 'I'
) AS hits
ORDER BY n, gid;

INSERT INTO assignment_data (hit_id, worker_id, start_time, completion_time, status, score)
SELECT hit_id, worker_id, start_time,
       CASE WHEN status <> 'Assigned' THEN start_time + make_interval(mins => 4 + slot) END, status,
       CASE WHEN kml_type = 'Q' AND status IN ('Approved', 'Rejected')
            THEN (CASE status WHEN 'Approved' THEN 0.5 ELSE 0.1 END + drawn % 40 / 100.0)::real END
FROM (
    SELECT hit_id, kml_type, slot, drawn, 1 + (drawn / 1000 + slot * 37) % 300 AS worker_id,
           create_time + make_interval(hours => slot) AS start_time,
           CASE WHEN kml_type = 'Q' THEN
                    CASE drawn % 10 WHEN 0 THEN 'Rejected' WHEN 1 THEN 'Unscored' ELSE 'Approved' END
                WHEN slot <= mapped_count THEN 'Approved'
                WHEN mapped_count = 5 THEN CASE drawn % 3 WHEN 0 THEN 'Abandoned'
                                           WHEN 1 THEN 'Returned' ELSE 'Untrusted' END
                ELSE CASE drawn % 2 WHEN 0 THEN 'Assigned' ELSE 'Pending' END END AS status
    FROM (SELECT hit_data.*, kml_type, mapped_count, pg_temp.draw('assignment' || hit_id) AS drawn
          FROM hit_data JOIN kml_data USING (name)) AS hits
    CROSS JOIN LATERAL generate_series(1, CASE WHEN kml_type = 'Q' THEN (delete_time IS NOT NULL)::integer
                                               ELSE mapped_count + (drawn % 4 = 0)::integer END) AS slot
) AS assignments
ORDER BY start_time, hit_id, slot;

INSERT INTO user_maps (name, geom, geom_clean, completion_time, category, assignment_id)
SELECT format('%s_%s', hit_data.name, n), shape, shape, completion_time, 'field', assignment_id
FROM assignment_data
JOIN hit_data USING (hit_id)
JOIN master_grid ON master_grid.name = hit_data.name
CROSS JOIN LATERAL generate_series(1, (pg_temp.draw('maps' || assignment_id) % 4)::integer) AS n
CROSS JOIN LATERAL pg_temp.square(x, y, n * 0.0012 - 0.002) AS shape
WHERE status IN ('Approved', 'Rejected', 'Pending', 'Untrusted')
ORDER BY assignment_id, n;

INSERT INTO accuracy_data
SELECT assignment_id, score, score, 0.7, 0.6, 0.5, score, 0.9, 0.8, assignment_id % 4, 0.6, 0.7
FROM assignment_data WHERE score IS NOT NULL ORDER BY assignment_id;

INSERT INTO assignment_history (event_time, event_type, worker_id, assignment_id, amount, feedback)
SELECT completion_time, CASE status WHEN 'Rejected' THEN 'Rejected' ELSE 'Approved' END || ' Assignment',
       worker_id, assignment_id, 5 + assignment_id % 40, 'It''s recorded; thank you.'
FROM assignment_data WHERE status IN ('Approved', 'Rejected', 'Pending', 'Untrusted')
ORDER BY assignment_id;
INSERT INTO assignment_history (event_time, event_type, worker_id, amount, feedback)
SELECT first_time, 'Training Bonus', worker_id, 120, 'Training bonus'
FROM worker_data WHERE bonus_paid ORDER BY worker_id;

INSERT INTO assignment_review (reviewer_id, assignment_id, review_time, binary_group,
                               edge_error_count, edge_error_ratio, edge_comment)
SELECT 2 + assignment_id % 4, assignment_id, completion_time + interval '1 day',
       1 + assignment_id % 5, assignment_id % 11, (assignment_id % 10 / 10.0)::real, 'reviewed'
FROM assignment_data WHERE status = 'Approved' AND assignment_id % 20 = 0 ORDER BY assignment_id;

INSERT INTO qual_assignment_data (worker_id, name, tries, start_time, completion_time, status, score)
SELECT worker_id, name, 1 + worker_id % 2, first_time, first_time + interval '5 minutes', 'Approved',
       (0.4 + pg_temp.draw(format('qual%s/%s', worker_id, name)) % 60 / 100.0)::real
FROM worker_data, kml_data_static
WHERE kml_type = 'I' AND worker_id <= 40
ORDER BY worker_id, gid;
INSERT INTO qual_user_maps (name, geom, geom_clean, completion_time, category, assignment_id, try)
SELECT q.name || '_1', shape, shape, completion_time, 'field', assignment_id, tries
FROM qual_assignment_data AS q
JOIN master_grid ON master_grid.name = q.name
CROSS JOIN LATERAL pg_temp.square(x, y, 0) AS shape
ORDER BY assignment_id;
INSERT INTO qual_accuracy_data
SELECT assignment_id, tries, score, score, 0.7, 0.6, 0.5, score, 0.9, 0.8, 1, 0.6, 0.7
FROM qual_assignment_data ORDER BY assignment_id;

UPDATE system_data SET value = '3' WHERE key = 'IterationCounter';
UPDATE system_data SET value = '57' WHERE key = 'CurQaqcGid';
UPDATE system_data SET value = '501' WHERE key = 'firstAvailLine';
UPDATE configuration SET value = current_setting('runbook.bucket') WHERE key = 'S3BucketDir';
UPDATE configuration SET value = md5(key || pg_temp.draw(key)) WHERE key LIKE 'instance_';
