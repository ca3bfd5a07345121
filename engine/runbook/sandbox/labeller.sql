-- The labeller's database (docs/labeller.md 1.1): tables, types, defaults, sequences with their odd
-- names, keys, checks. Run by the owner of an empty database. Where PostGIS is installed its type
-- geometry is used; else a domain stands in, which modules pass through unread like the real one.

DO $$
BEGIN
    IF to_regtype('geometry') IS NULL THEN
        CREATE DOMAIN public.geometry AS text;
    END IF;
END
$$;

-- Grid and imagery

CREATE SEQUENCE master_grid_gid_seq1;
CREATE TABLE master_grid (
    gid integer NOT NULL DEFAULT nextval('master_grid_gid_seq1'),
    id integer NOT NULL,
    x double precision NOT NULL,
    y double precision NOT NULL,
    name character(9) NOT NULL,
    fwts integer NOT NULL,
    avail character(1) NOT NULL DEFAULT 'T',
    date text,
    CONSTRAINT master_grid_pkey PRIMARY KEY (gid)
);
ALTER SEQUENCE master_grid_gid_seq1 OWNED BY master_grid.gid;
CREATE INDEX name_gix1 ON master_grid (name);

CREATE TABLE scenes_data (
    provider character varying(24) NOT NULL,
    scene_id character varying(128) NOT NULL,
    cell_id integer NOT NULL,
    season character varying(2) NOT NULL,
    global_col integer,
    global_row integer,
    url character varying(255),
    tms_url text,
    date_time timestamp with time zone NOT NULL,
    CONSTRAINT scenes_data_pkey PRIMARY KEY (provider, cell_id, season)
);

CREATE SEQUENCE kml_data_static_gid_seq;
CREATE TABLE kml_data_static (
    gid integer NOT NULL DEFAULT nextval('kml_data_static_gid_seq'),
    kml_type character(1) NOT NULL,
    name character varying(80) NOT NULL,
    hint text,
    CONSTRAINT kml_data_static_pkey PRIMARY KEY (gid)
);
ALTER SEQUENCE kml_data_static_gid_seq OWNED BY kml_data_static.gid;

CREATE SEQUENCE qaqcfields_gid_seq;
CREATE TABLE qaqcfields (
    gid integer NOT NULL DEFAULT nextval('qaqcfields_gid_seq'),
    name character varying(80),
    category character varying(80),
    geom_clean geometry,
    CONSTRAINT qaqcfields_pkey PRIMARY KEY (gid)
);
ALTER SEQUENCE qaqcfields_gid_seq OWNED BY qaqcfields.gid;
CREATE INDEX qaqcfields_name_idx ON qaqcfields (name);

CREATE SEQUENCE machine_maps_gid_seq;
CREATE TABLE machine_maps (
    gid integer NOT NULL DEFAULT nextval('machine_maps_gid_seq'),
    name character varying(80),
    geom geometry,
    CONSTRAINT machine_maps_pkey PRIMARY KEY (gid)
);
ALTER SEQUENCE machine_maps_gid_seq OWNED BY machine_maps.gid;

CREATE TABLE categories (
    category character varying(80) NOT NULL,
    categ_description text,
    categ_default boolean NOT NULL DEFAULT false,
    sort_id integer,
    categ_group character varying(80),
    CONSTRAINT categories_pkey PRIMARY KEY (category)
);

-- Accounts and workers

CREATE SEQUENCE users_id_seq;
CREATE TABLE users (
    id integer NOT NULL DEFAULT nextval('users_id_seq'),
    email character varying(255) NOT NULL,
    password character varying(255) NOT NULL DEFAULT '',
    confirmed_at timestamp without time zone,
    active boolean NOT NULL DEFAULT false,
    first_name character varying(50),
    last_name character varying(50),
    street_address character varying(100),
    city character varying(50),
    country character varying(50),
    phone character varying(50),
    fax character varying(50),
    date_of_birth date,
    invited_by integer,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_invited_by_fkey FOREIGN KEY (invited_by)
        REFERENCES users (id) ON DELETE CASCADE
);
ALTER SEQUENCE users_id_seq OWNED BY users.id;

CREATE SEQUENCE roles_id_seq;
CREATE TABLE roles (
    id integer NOT NULL DEFAULT nextval('roles_id_seq'),
    name character varying(50) NOT NULL,
    label character varying(255),
    invited_by integer,
    CONSTRAINT roles_pkey PRIMARY KEY (id),
    CONSTRAINT roles_name_key UNIQUE (name)
);
ALTER SEQUENCE roles_id_seq OWNED BY roles.id;

CREATE SEQUENCE users_roles_id_seq;
CREATE TABLE users_roles (
    id integer NOT NULL DEFAULT nextval('users_roles_id_seq'),
    user_id integer,
    role_id integer,
    CONSTRAINT users_roles_pkey PRIMARY KEY (id),
    CONSTRAINT users_roles_user_id_fkey FOREIGN KEY (user_id)
        REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT users_roles_role_id_fkey FOREIGN KEY (role_id)
        REFERENCES roles (id) ON DELETE CASCADE
);
ALTER SEQUENCE users_roles_id_seq OWNED BY users_roles.id;

CREATE SEQUENCE user_invites_id_seq;
CREATE TABLE user_invites (
    id integer NOT NULL DEFAULT nextval('user_invites_id_seq'),
    email character varying(255) NOT NULL,
    invited_by integer,
    role character varying(50),
    token character varying(100) NOT NULL DEFAULT '',
    CONSTRAINT user_invites_pkey PRIMARY KEY (id),
    CONSTRAINT user_invites_invited_by_fkey FOREIGN KEY (invited_by) REFERENCES users (id)
);
ALTER SEQUENCE user_invites_id_seq OWNED BY user_invites.id;

CREATE TABLE worker_data (
    worker_id integer NOT NULL,
    first_time timestamp with time zone,
    last_time timestamp with time zone,
    scores real[] NOT NULL DEFAULT '{}',
    returns real[] NOT NULL DEFAULT '{}',
    qualified boolean NOT NULL DEFAULT false,
    bonus_paid boolean DEFAULT false,
    random_state text,
    CONSTRAINT worker_data_pkey PRIMARY KEY (worker_id)
);

-- Work queue

CREATE SEQUENCE kml_data_gid_seq;
CREATE TABLE kml_data (
    gid integer NOT NULL DEFAULT nextval('kml_data_gid_seq'),
    kml_type character(1) NOT NULL,
    name character varying(80) NOT NULL,
    hint text,
    mapped_count integer NOT NULL DEFAULT 0,
    mappers_needed integer,
    consensus_conflict real,
    post_processed boolean DEFAULT false,
    CONSTRAINT kml_data_pkey PRIMARY KEY (kml_type, gid),
    CONSTRAINT kml_data_kml_type_check CHECK (kml_type IN ('N', 'Q', 'I', 'F', 'E')),
    CONSTRAINT name_idx UNIQUE (name)
);
ALTER SEQUENCE kml_data_gid_seq OWNED BY kml_data.gid;

CREATE SEQUENCE hit_data_hit_id_seq;
CREATE TABLE hit_data (
    hit_id integer NOT NULL DEFAULT nextval('hit_data_hit_id_seq'),
    name character varying(80) NOT NULL,
    create_time timestamp with time zone NOT NULL,
    delete_time timestamp with time zone,
    max_assignments integer NOT NULL DEFAULT 1,
    duration integer,
    reward integer,
    hit_expired boolean DEFAULT false,
    CONSTRAINT hit_data_pkey PRIMARY KEY (hit_id),
    CONSTRAINT hit_data_name_fkey FOREIGN KEY (name)
        REFERENCES kml_data (name) ON DELETE RESTRICT
);
ALTER SEQUENCE hit_data_hit_id_seq OWNED BY hit_data.hit_id;
CREATE INDEX hit_data_delete_time_idx ON hit_data (delete_time);

CREATE SEQUENCE assignment_data_assignment_id_seq;
CREATE TABLE assignment_data (
    assignment_id integer NOT NULL DEFAULT nextval('assignment_data_assignment_id_seq'),
    hit_id integer NOT NULL,
    worker_id integer NOT NULL,
    start_time timestamp with time zone NOT NULL,
    completion_time timestamp with time zone,
    status character varying(15) NOT NULL,
    score real,
    comment character varying(2048),
    reviewed_count integer DEFAULT 0,
    CONSTRAINT assignment_data_pkey PRIMARY KEY (assignment_id),
    CONSTRAINT assignment_data_status_check CHECK (status IN ('Assigned', 'Abandoned', 'Returned',
        'Approved', 'Rejected', 'Unscored', 'Reversed', 'Pending', 'Untrusted')),
    CONSTRAINT assignment_data_hit_id_fkey FOREIGN KEY (hit_id)
        REFERENCES hit_data (hit_id) ON DELETE RESTRICT,
    CONSTRAINT assignment_data_worker_id_fkey FOREIGN KEY (worker_id)
        REFERENCES worker_data (worker_id) ON DELETE RESTRICT
);
ALTER SEQUENCE assignment_data_assignment_id_seq OWNED BY assignment_data.assignment_id;
CREATE INDEX assignment_data_worker_id_idx ON assignment_data (worker_id);

CREATE SEQUENCE user_maps_gid_seq;
CREATE TABLE user_maps (
    gid integer NOT NULL DEFAULT nextval('user_maps_gid_seq'),
    name character varying(80) NOT NULL,
    geom geometry,
    geom_clean geometry,
    completion_time timestamp with time zone,
    category character varying(80),
    categ_comment character varying(2048),
    assignment_id integer NOT NULL,
    CONSTRAINT user_maps_pkey PRIMARY KEY (gid),
    CONSTRAINT user_maps_assignment_id_fkey FOREIGN KEY (assignment_id)
        REFERENCES assignment_data (assignment_id) ON DELETE RESTRICT
);
ALTER SEQUENCE user_maps_gid_seq OWNED BY user_maps.gid;

CREATE TABLE accuracy_data (
    assignment_id integer NOT NULL,
    new_score real,
    old_score real,
    count_acc real,
    fragmentation_acc real,
    edge_acc real,
    ingrid_acc real,
    outgrid_acc real,
    category_acc real,
    num_userpolygons integer,
    field_skill real,
    nofield_skill real,
    CONSTRAINT accuracy_data_assignment_id_fkey FOREIGN KEY (assignment_id)
        REFERENCES assignment_data (assignment_id) ON DELETE RESTRICT
);

CREATE TABLE assignment_history (
    event_time timestamp with time zone DEFAULT now(),
    event_type character varying(30) NOT NULL,
    worker_id integer NOT NULL,
    assignment_id integer,
    amount integer,
    feedback text
);

CREATE SEQUENCE assignment_review_rid_seq;
CREATE TABLE assignment_review (
    rid integer NOT NULL DEFAULT nextval('assignment_review_rid_seq'),
    reviewer_id integer NOT NULL,
    assignment_id integer NOT NULL,
    review_time timestamp with time zone,
    binary_group integer NOT NULL,
    edge_error_count integer,
    edge_error_ratio real,
    edge_comment character varying(30),
    CONSTRAINT assignment_review_pkey PRIMARY KEY (rid),
    CONSTRAINT assignment_review_reviewer_id_assignment_id_key
        UNIQUE (reviewer_id, assignment_id),
    CONSTRAINT assignment_review_binary_group_check CHECK (binary_group BETWEEN 1 AND 5),
    CONSTRAINT assignment_review_edge_error_count_check CHECK (edge_error_count BETWEEN 0 AND 10),
    CONSTRAINT assignment_review_edge_error_ratio_check CHECK (edge_error_ratio BETWEEN 0 AND 1),
    CONSTRAINT assignment_review_edge_check
        CHECK (coalesce(edge_error_count, edge_error_ratio) IS NOT NULL
               OR edge_comment IS NOT NULL),
    CONSTRAINT assignment_review_reviewer_id_fkey FOREIGN KEY (reviewer_id)
        REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT assignment_review_assignment_id_fkey FOREIGN KEY (assignment_id)
        REFERENCES assignment_data (assignment_id) ON DELETE CASCADE
);
ALTER SEQUENCE assignment_review_rid_seq OWNED BY assignment_review.rid;

-- Qualification

CREATE SEQUENCE qual_assignment_data_assignment_id_seq;
CREATE TABLE qual_assignment_data (
    assignment_id integer NOT NULL DEFAULT nextval('qual_assignment_data_assignment_id_seq'),
    worker_id integer NOT NULL,
    name character varying(80) NOT NULL,
    tries integer NOT NULL DEFAULT 1,
    start_time timestamp with time zone NOT NULL,
    completion_time timestamp with time zone,
    status character varying(15),
    score real,
    CONSTRAINT qual_assignment_data_pkey PRIMARY KEY (assignment_id)
);
ALTER SEQUENCE qual_assignment_data_assignment_id_seq OWNED BY qual_assignment_data.assignment_id;

CREATE SEQUENCE qual_user_maps_gid_seq;
CREATE TABLE qual_user_maps (
    gid integer NOT NULL DEFAULT nextval('qual_user_maps_gid_seq'),
    name character varying(80) NOT NULL,
    geom geometry,
    geom_clean geometry,
    completion_time timestamp with time zone,
    category character varying(80),
    categ_comment character varying(2048),
    assignment_id integer NOT NULL,
    try integer NOT NULL DEFAULT 1,
    CONSTRAINT qual_user_maps_pkey PRIMARY KEY (gid),
    CONSTRAINT qual_user_maps_assignment_id_fkey FOREIGN KEY (assignment_id)
        REFERENCES qual_assignment_data (assignment_id) ON DELETE RESTRICT
);
ALTER SEQUENCE qual_user_maps_gid_seq OWNED BY qual_user_maps.gid;

CREATE TABLE qual_accuracy_data (
    assignment_id integer NOT NULL,
    try integer NOT NULL DEFAULT 1,
    new_score real,
    old_score real,
    count_acc real,
    fragmentation_acc real,
    edge_acc real,
    ingrid_acc real,
    outgrid_acc real,
    category_acc real,
    num_userpolygons integer,
    field_skill real,
    nofield_skill real,
    CONSTRAINT qual_accuracy_data_assignment_id_fkey FOREIGN KEY (assignment_id)
        REFERENCES qual_assignment_data (assignment_id) ON DELETE RESTRICT
);

-- Active-learning control

CREATE TABLE iteration_metrics (
    run integer NOT NULL,
    iteration integer NOT NULL,
    tss real,
    accuracy real,
    aoi character varying(80),
    iteration_time timestamp with time zone,
    precision real,
    recall real,
    fpr real,
    tpr real,
    auc real,
    CONSTRAINT iteration_metrics_pkey PRIMARY KEY (run, iteration)
);

CREATE TABLE incoming_names (
    name character varying(80) NOT NULL,
    run integer NOT NULL,
    iteration integer NOT NULL,
    processed boolean NOT NULL DEFAULT false,
    usage character varying(10) NOT NULL,
    label boolean NOT NULL DEFAULT false,
    CONSTRAINT incoming_names_usage_check CHECK (usage IN ('train', 'validate', 'holdout')),
    CONSTRAINT incoming_names_run_iteration_fkey FOREIGN KEY (run, iteration)
        REFERENCES iteration_metrics (run, iteration)
);

CREATE TABLE configuration (
    key character varying NOT NULL,
    value character varying,
    comment character varying,
    CONSTRAINT configuration_pkey PRIMARY KEY (key)
);

CREATE TABLE system_data (
    key character varying NOT NULL,
    value character varying,
    comment character varying,
    CONSTRAINT system_data_pkey PRIMARY KEY (key)
);

INSERT INTO system_data (key, value, comment) VALUES
    ('CurQaqcGid', '0', 'gid of the last Q cell that became a HIT'),
    ('IterationCounter', '0', 'iteration that the consensus daemon is in'),
    ('firstAvailLine', '1', 'next gid of master_grid for the selection of N sites');

-- docs/labeller.md 1.3: updateConfiguration.sql, then the keys that code reads but no SQL file sets.
INSERT INTO configuration (key, value, comment) VALUES
    ('APIUrl', '/api', 'web path of the wsgi scripts'),
    ('Bonus_Amount1', '20', 'points'),
    ('Bonus_Amount2', '40', 'points'),
    ('Bonus_Amount3', '60', 'points'),
    ('Bonus_Amount4', '80', 'points'),
    ('Bonus_AmountTraining', '120', 'points, once per worker'),
    ('Bonus_Reason1', 'Quality bonus level 1', 'feedback'),
    ('Bonus_Reason2', 'Quality bonus level 2', 'feedback'),
    ('Bonus_Reason3', 'Quality bonus level 3', 'feedback'),
    ('Bonus_Reason4', 'Quality bonus level 4', 'feedback'),
    ('Bonus_ReasonTraining', 'Training bonus', 'feedback'),
    ('Bonus_Threshold1', '0.8', 'quality score, or ignore'),
    ('Bonus_Threshold2', '0.85', 'quality score, or ignore'),
    ('Bonus_Threshold3', '0.9', 'quality score, or ignore'),
    ('Bonus_Threshold4', '0.95', 'quality score, or ignore'),
    ('Consensus_RiskyPixelThreshold', '0.4', 'cut of the risk map'),
    ('Consensus_WarningThreshold', '0.1', 'only logged'),
    ('FKMLCheckingInterval', '120', 'seconds'),
    ('HitI_AcceptThreshold', '0.4', NULL),
    ('HitN_TrustThreshold', '0.45', 'trusted from this quality score'),
    ('HitQ_AcceptThreshold', '0.4', NULL),
    ('HitQ_NoWarningThreshold', '0.42', NULL),
    ('HitQ_WarningDescription', 'Your score of %s is close to the limit.', NULL),
    ('Hit_AvailTarget', '20', 'live HITs of a type'),
    ('Hit_Duration', '86400', 'seconds until Assigned becomes Abandoned'),
    ('Hit_FqaqcPercentage', '80', 'share of F, standalone only'),
    ('Hit_MaxAssignmentsF', '5', 'mappers of an F cell'),
    ('Hit_MaxAssignmentsN', '2', 'mappers of an N cell'),
    ('Hit_PendingAssignLimit', '86400', 'seconds until Pending becomes Untrusted'),
    ('Hit_PollingInterval', '10', 'seconds'),
    ('Hit_QaqcPercentage', '20', 'share of Q'),
    ('Hit_RejectDescription', 'Your score of %s is too low.', NULL),
    ('Hit_ReplacementThreshold_F', '0', NULL),
    ('Hit_ReplacementThreshold_N', '0.5', NULL),
    ('Hit_Reward', '5', 'points'),
    ('Hit_RewardIncrement', '0.17', NULL),
    ('Hit_RewardIncrement2', '-0.016', NULL),
    ('Hit_StandAlone', 'false', 'no coupling to the learner'),
    ('InitialFnum', '100', 'initial F cells'),
    ('IssueAlertAssignee', '', 'GitHub'),
    ('IssueAlertLabel', 'Internal Alert', 'GitHub'),
    ('IssueGeneralInquiryAssignee', '', 'GitHub'),
    ('IssueGeneralInquiryLabel', 'General Inquiry', 'GitHub'),
    ('IssueWorkerInquiryAssignee', '', 'GitHub'),
    ('IssueWorkerInquiryLabel', 'Worker Inquiry', 'GitHub'),
    ('KMLFrameHeight', '650', 'web interface'),
    ('KMLFrameScript', '/kmlframe', 'web interface'),
    ('KMLGenScript', '/genkml', 'web interface'),
    ('KMLInstructions', '/instructions', 'web interface'),
    ('KMLMapHeight', '550', 'web interface'),
    ('KMLPollingInterval', '600', 'seconds'),
    ('KMLdlat', '0.0025', 'half a cell, degrees'),
    ('KMLdlon', '0.0025', 'half a cell, degrees'),
    ('MapUrl', '/map', 'web interface'),
    ('MinAvailNKMLTarget', '50', 'low-water mark of N'),
    ('MinimumMappedCount', '5', NULL),
    ('NKMLBatchSize', '500', 'gid window'),
    ('ProportionHoldout', '0.7', NULL),
    ('ProportionHoldout1', '0.07', NULL),
    ('Qual_RevocationDescription', 'Your scores were too low.', 'unused'),
    ('Qual_RevocationThreshold', '0.6', NULL),
    ('QualTest_InstructionalVideo', 'tutorial.mp4', 'web interface'),
    ('QualTest_InstructionalVideoHeight', '480', 'web interface'),
    ('QualTest_InstructionalVideoWidth', '640', 'web interface'),
    ('QualTest_IntroVideo', 'intro.mp4', 'web interface'),
    ('QualTest_IntroVideoHeight', '480', 'web interface'),
    ('QualTest_IntroVideoWidth', '640', 'web interface'),
    ('QualTest_TF_TextEnd', 'All %(totCount)d maps are done.', 'web interface'),
    ('QualTest_TF_TextMiddle', '%(doneCount)d of %(totCount)d maps are done.', 'web interface'),
    ('QualTest_TF_TextStart', 'There are %(totCount)d maps to draw.', 'web interface'),
    ('Quality_ReturnHistDepth', '10', NULL),
    ('Quality_ReturnWeight', '1.0', NULL),
    ('Quality_ScoreHistDepth', '5', NULL),
    ('S3BucketDir', 'activemapper', 'bucket of labels and incoming_names'),
    ('SessionLifetime', '600', 'minutes'),
    ('SnapTolerance', '10', 'web interface'),
    ('StoppingFunc_AccGainThres', '0.01', 'criterion 2'),
    ('StoppingFunc_AccThres', '0.85', 'criterion 2'),
    ('StoppingFunc_MaxIterations', '30', 'criterion 1'),
    ('VideoUrl', '/video', 'web interface'),
    ('Hit_AlertFrequency', '60', 'minutes'),
    ('Hit_NeedFKmlsAlert', 'true', 'standalone only'),
    ('Hit_NeedNKmlsAlert', 'true', NULL),
    ('Hit_NotificationEmailAddress', '', NULL),
    ('WI_GithubIssue', 'true', 'worker inquiry'),
    ('WI_Message', 'Write to the administrators.', 'worker inquiry'),
    ('WI_Prompt', 'true', 'worker inquiry'),
    ('instanceI', '', 'Sentinel Hub instance: a secret'),
    ('instanceQ', '', 'Sentinel Hub instance: a secret'),
    ('instanceF', '', 'Sentinel Hub instance: a secret'),
    ('instanceN', '', 'Sentinel Hub instance: a secret'),
    ('instanceE', '', 'Sentinel Hub instance: a secret');
