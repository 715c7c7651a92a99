use zhuji_config::{Config, Secret};

#[derive(Config)]
#[config(prefix("A_"))]
struct OnStruct {
    #[config(env = "A")]
    a: String,
}

#[derive(Config)]
struct OnField {
    #[config(env = "A", defualt = "1")]
    a: u16,
    b: u16,
    #[config(env = "c")]
    c: u16,
    #[config(env = "D", default = 3 * 4)]
    d: u16,
    #[config(env = "E", env = "F")]
    e: u16,
    #[config(nested, default = "1")]
    g: Inner,
}

#[derive(Config)]
struct Twice {
    #[config(env = "A")]
    a: String,
    #[config(env = "B", alias = "A")]
    b: String,
}

#[derive(Config)]
struct Inner {
    #[config(env = "KEY")]
    key: Secret,
}

fn main() {}
