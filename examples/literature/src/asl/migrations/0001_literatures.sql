create table literatures (
    id uuid primary key,
    -- What makes two rows of two files the same record: its DOI, or else its title, year and authors.
    fingerprint bytea not null unique,
    title text not null,
    authors text,
    year integer,
    journal text,
    doi text,
    abstract text,
    included boolean,
    -- Everything that a search looks at, in lower case. Written by the service and not by lower(), whose idea of a
    -- letter depends on the locale the database was created with.
    search_text text not null,
    pdf_url text,
    pdf_oss_key text,
    pdf_file_name text,
    pdf_file_size bigint,
    extraction_state text not null default 'none'
        check (extraction_state in ('none', 'pending', 'running', 'done', 'failed')),
    extraction_pages integer,
    extraction_error text,
    extraction_job text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((pdf_oss_key is null) = (extraction_state = 'none'))
);

create unique index literatures_pdf_oss_key on literatures (pdf_oss_key);

-- The sweep looks for extractions that nobody works on any more.
create index literatures_unfinished on literatures (updated_at)
    where extraction_state in ('pending', 'running');

-- Apart from the record, so that listing records never touches megabytes of text.
create table extracted_texts (
    literature_id uuid primary key references literatures (id) on delete cascade,
    text text not null,
    extracted_at timestamptz not null default now()
);
