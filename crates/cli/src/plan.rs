//! `zhuji plan`.

use std::process::ExitCode;

use serde_json::json;
use zhuji_db_pool::{Demand, PlannerInput, Verdict, plan};

use crate::args::Plan;
use crate::failure::Failure;
use crate::storage::say;

const EXIT_TIGHT: u8 = 3;
const EXIT_IMPOSSIBLE: u8 = 4;

pub(crate) fn run(args: &Plan) -> Result<ExitCode, Failure> {
    let mut input = PlannerInput::new(args.max_connections);
    input.instances = args.instances;
    input.surge = args.surge.unwrap_or(args.instances);
    input.vendor_reserved = args.reserved.unwrap_or(input.vendor_reserved);
    input.other = args.others.unwrap_or(input.other);
    input.demand = args
        .per_second
        .zip(args.hold)
        .map(|(per_second, hold)| Demand { per_second, hold });
    let plan = plan(&input);
    if args.json {
        say(&json!({
            "verdict": plan.verdict.to_string(),
            "pool_size": plan.size,
            "wanted": plan.want,
            "web": plan.web,
            "jobs": plan.jobs,
            "budget": plan.budget,
            "peak": plan.peak,
            "rule_of_thumb": { "pool_size": plan.guide_size, "fits_a_release": plan.guide_fits },
            "advice": plan.advice,
        })
        .to_string());
    } else {
        say(&format!(
            "{}: a pool of {} for each instance",
            plan.verdict, plan.size
        ));
        say(&format!(
            "  server            {:>5}  max_connections",
            input.max_connections
        ));
        let kept = input.superuser_reserved + input.vendor_reserved;
        say(&format!("  kept by it        {kept:>5}  superuser and vendor"));
        say(&format!(
            "  others            {:>5}  people, tools, migrations",
            input.other
        ));
        say(&format!(
            "  budget            {:>5}  95 % of the rest, for the whole fleet",
            plan.budget
        ));
        let (running, releasing) = (input.instances, input.instances + input.surge);
        say(&format!(
            "  instances         {running:>5}  {releasing} during a release"
        ));
        say(&format!(
            "  pool of each      {:>5}  {} for requests, {} for jobs",
            plan.size, plan.web, plan.jobs
        ));
        if let Some(want) = plan.want {
            say(&format!("  wanted by each    {want:>5}  for the demand given"));
        }
        say(&format!(
            "  at the peak       {:>5}  all pools full during a release",
            plan.peak
        ));
        let fits = if plan.guide_fits {
            "fits"
        } else {
            "too many during a release"
        };
        say(&format!(
            "  rule of thumb     {:>5}  max / instances × 0.8: {fits}",
            plan.guide_size
        ));
        for advice in &plan.advice {
            say(&format!("- {advice}"));
        }
    }
    Ok(match plan.verdict {
        Verdict::Ok => ExitCode::SUCCESS,
        Verdict::Tight => ExitCode::from(EXIT_TIGHT),
        _ => ExitCode::from(EXIT_IMPOSSIBLE),
    })
}
