use zhuji_config::Config;

struct Inner;

#[derive(Config)]
struct Section {
    #[config(env = "A")]
    a: Option<Inner>,
    #[config(nested)]
    b: Inner,
}

#[derive(Config)]
#[config(impl_default)]
struct NoDefault {
    #[config(env = "B")]
    b: u16,
}

fn main() {}
