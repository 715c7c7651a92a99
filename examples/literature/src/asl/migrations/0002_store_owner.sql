-- Which store belongs to this database: the sweep removes nothing from any other. One row at most.
create table store_owner (
    the_one boolean primary key default true check (the_one),
    -- Also the content of the store's object `sweep-owner`.
    id uuid not null,
    -- When the store was first seen with this id.
    tied_at timestamptz
);
