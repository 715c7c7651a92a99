//! `zhuji plan`.

mod guide;
mod json;
mod table;

use std::process::ExitCode;

use zhuji_db_pool::{Demand, PlannerInput, Verdict, plan};

pub(crate) use self::guide::Rds;
use crate::args;
use crate::failure::Failure;
use crate::storage::say;

const EXIT_TIGHT: u8 = 3;
const EXIT_IMPOSSIBLE: u8 = 4;

pub(crate) fn run(args: &args::Plan) -> Result<ExitCode, Failure> {
    // The one or the other is there: the command line sees to it.
    let of_size = args.rds.map(|size| size.max_connections);
    let mut input = PlannerInput::new(args.max_connections.or(of_size).unwrap_or_default());
    input.instances = args.instances;
    input.surge = args.surge.unwrap_or(args.instances);
    input.vendor_reserved = args.reserved.unwrap_or(input.vendor_reserved);
    input.other = args.others.unwrap_or(input.other);
    (input.web_weight, input.jobs_weight) = (args.web_weight, args.jobs_weight);
    input.cores = args.cores.or(args.rds.map(|size| size.cores));
    input.demand = args
        .per_second
        .zip(args.hold)
        .map(|(per_second, hold)| Demand { per_second, hold });
    let plan = plan(&input);
    if args.json {
        say(&json::of(&plan).to_string());
    } else {
        table::lines(&plan).iter().for_each(|line| say(line));
    }
    Ok(match plan.verdict {
        Verdict::Ok => ExitCode::SUCCESS,
        Verdict::Tight => ExitCode::from(EXIT_TIGHT),
        _ => ExitCode::from(EXIT_IMPOSSIBLE),
    })
}

/// The same fleet on another size of server.
fn on(size: &Rds, input: &PlannerInput) -> zhuji_db_pool::Plan {
    let mut there = *input;
    there.max_connections = size.max_connections;
    there.cores = Some(size.cores);
    plan(&there)
}
