use zhuji_config::{Config, ConfigEnum};

#[derive(Config)]
enum Kind {
    A,
}

#[derive(Config)]
struct Tuple(String);

#[derive(Config)]
struct Generic<T> {
    #[config(env = "A")]
    a: T,
}

#[derive(ConfigEnum)]
enum WithFields {
    A(String),
}

#[derive(ConfigEnum)]
struct NotAnEnum;

#[derive(ConfigEnum)]
enum SameName {
    A,
    #[config(name = "a")]
    B,
}

fn main() {}
