-- Table names have no schema: the platform puts them into the module's own. An applied migration never changes.
create table notes (
    id         bigint generated always as identity primary key,
    title      text        not null,
    words      bigint,
    created_at timestamptz not null default now()
);
