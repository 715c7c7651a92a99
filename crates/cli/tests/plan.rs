//! `zhuji plan`, as it is typed.

use std::process::{Command, Output};

fn plan(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zhuji"))
        .arg("plan")
        .args(args)
        .output()
        .expect("the command is built")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn json(args: &[&str]) -> serde_json::Value {
    serde_json::from_slice(&plan(&[args, &["--json"]].concat()).stdout).expect("JSON")
}

#[test]
fn a_fleet_that_fits_has_a_table_a_person_can_read() {
    let output = plan(&["--max-connections", "400", "--instances", "10"]);
    assert_eq!(output.status.code(), Some(0));
    let text = text(&output);
    for line in [
        "OK: a pool of 16 for each instance",
        "  budget              359  95 % of the rest",
        "  rule of thumb        32  max / instances × 0.8: too many during a release",
        "  start        general    2C4G        2    4 GB          400     ¥300  OK            16",
        "  mature       dedicated  8C16G       8   16 GB         1600    ¥1200  OK            73",
        "(the deployment guide's figures of 2025-11-16)",
        "  growth       2C4G        2    4 GB  5000–20000",
        "    total                                      ¥515",
        "    total                                     ¥1290",
        "    total                                     ¥4700",
    ] {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }
}

#[test]
fn the_verdict_is_the_exit_code_and_comes_with_ways_out() {
    let tight = plan(&[
        "--rds",
        "2C4G",
        "--instances",
        "10",
        "--per-second",
        "2000",
        "--hold",
        "20ms",
    ]);
    assert_eq!(tight.status.code(), Some(3));
    let tight = text(&tight);
    for part in [
        "TIGHT",
        "  wanted by each       60",
        "- a server with max_connections of at least 1307",
        "5–8  queries",
    ] {
        assert!(tight.contains(part), "{part:?} is not in:\n{tight}");
    }
    let impossible = plan(&["--max-connections", "400", "--instances", "100"]);
    assert_eq!(impossible.status.code(), Some(4));
    assert!(text(&impossible).contains("DATABASE_POOLED_URL"));
    let nothing = plan(&["--instances", "3"]);
    assert_eq!(nothing.status.code(), Some(2));
}

#[test]
fn machines_get_the_same_numbers() {
    let plan = json(&["--rds", "2c4g", "--instances", "10", "--jobs-weight", "3"]);
    assert_eq!(plan["verdict"], "OK");
    assert_eq!(
        (&plan["pool_size"], &plan["web"], &plan["jobs"]),
        (&16.into(), &8.into(), &8.into())
    );
    assert_eq!(plan["role_connection_limit"], 359);
    assert_eq!(plan["active_target"]["from"], 5);
    assert_eq!(plan["guide"]["date"], "2025-11-16");
    assert_eq!(plan["guide"]["rds"].as_array().map(Vec::len), Some(4));
    assert_eq!(plan["guide"]["costs_a_month"][1]["total"], 1290);
    assert_eq!(plan["rule_of_thumb"]["pool_size"], 32);
}

/// Every block after a command line in the page is what that command prints, or how its output begins.
#[test]
fn the_page_on_capacity_shows_what_is_printed() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/capacity.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let mut blocks = page.split("`zhuji plan --").skip(1);
    let mut compared = 0;
    for block in &mut blocks {
        let (command, rest) = block.split_once("`:\n\n```text\n").expect("a block follows");
        let (shown, _) = rest.split_once("\n```\n").expect("the block ends");
        let command = format!("--{command}");
        let printed = text(&plan(&command.split(' ').collect::<Vec<_>>()));
        assert!(
            printed.starts_with(shown),
            "`zhuji plan {command}` prints\n{printed}"
        );
        compared += 1;
    }
    assert_eq!(compared, 2);
}
