use zhuji_db_pool::{Plan, Verdict};

use super::guide::{COSTS, DATE, RDS, SAE, SAE_YUAN_PER_MILLION};
use super::on;

pub(crate) fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = of_plan(plan);
    lines.push(String::new());
    lines.extend(of_sizes(plan));
    lines.push(String::new());
    lines.extend(of_costs());
    lines
}

fn of_plan(plan: &Plan) -> Vec<String> {
    let input = &plan.input;
    let row = |name: &str, number: u32, what: &str| format!("  {name:<17} {number:>5}  {what}");
    let mut lines = vec![format!(
        "{}: a pool of {} for each instance",
        plan.verdict, plan.size
    )];
    lines.push(row("server", input.max_connections, "max_connections"));
    let kept = input.superuser_reserved.saturating_add(input.vendor_reserved);
    lines.push(row("kept by it", kept, "superuser and vendor"));
    lines.push(row(
        "others",
        input.other,
        "other services, people, tools, migrations",
    ));
    lines.push(row(
        "budget",
        plan.budget,
        "95 % of the rest, for the whole fleet; CONNECTION LIMIT of its role",
    ));
    let releasing = input.instances.saturating_add(input.surge);
    lines.push(row(
        "instances",
        input.instances,
        &format!("{releasing} during a release"),
    ));
    lines.push(row(
        "listeners",
        input.listeners,
        "connections of an instance besides its pool",
    ));
    lines.push(row("most for each", plan.cap, "of its pool"));
    if let Some(want) = plan.want {
        lines.push(row("wanted by each", want, "for the demand given"));
    }
    let split = format!(
        "{} for requests, {} for jobs; {} kept open",
        plan.web, plan.jobs, plan.min_idle
    );
    lines.push(row("pool of each", plan.size, &split));
    lines.push(row("at the peak", plan.peak, "all pools full during a release"));
    if let Some((from, to)) = plan.active_target {
        lines.push(format!(
            "  best at           {from}–{to}  queries at the same time, by its cores"
        ));
    }
    let fits = if plan.guide_fits {
        "fits"
    } else {
        "too many during a release"
    };
    lines.push(row(
        "rule of thumb",
        plan.guide_size,
        &format!("max / instances × 0.8: {fits}"),
    ));
    match plan.verdict {
        Verdict::Ok => {}
        _ => lines.push("What would help, each by itself:".to_owned()),
    }
    lines.extend(plan.advice.iter().map(|advice| format!("- {advice}")));
    lines
}

fn of_sizes(plan: &Plan) -> Vec<String> {
    let mut lines = vec![format!(
        "This fleet on sizes of RDS (the deployment guide's figures of {DATE}):"
    )];
    lines.push(format!(
        "  {:<12} {:<10} {:<7} {:>5} {:>7} {:>12} {:>8}  {:<10} {:>5}",
        "phase", "series", "size", "cores", "memory", "connections", "a month", "verdict", "pool"
    ));
    for size in RDS {
        let there = on(size, &plan.input);
        lines.push(format!(
            "  {:<12} {:<10} {:<7} {:>5} {:>4} GB {:>12} {:>8}  {:<10} {:>5}",
            size.phase,
            size.series,
            size.spec,
            size.cores,
            size.memory_gb,
            size.max_connections,
            format!("¥{}", size.yuan_a_month),
            there.verdict.to_string(),
            there.size
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "Sizes of SAE instances (the deployment guide's figures of {DATE}):"
    ));
    lines.push(format!(
        "  {:<12} {:<7} {:>5} {:>7}  requests a day",
        "phase", "size", "vCPU", "memory"
    ));
    for size in SAE {
        let requests = match size.requests {
            (0, Some(to)) => format!("below {to}"),
            (from, Some(to)) => format!("{from}–{to}"),
            (from, None) => format!("above {from}"),
        };
        lines.push(format!(
            "  {:<12} {:<7} {:>5} {:>4} GB  {requests}",
            size.phase, size.spec, size.vcpu, size.memory_gb
        ));
    }
    lines
}

fn of_costs() -> Vec<String> {
    let mut lines = vec![format!(
        "Costs a month (the deployment guide's figures of {DATE}; prices change):"
    )];
    for cost in COSTS {
        lines.push(format!(
            "  {}: {} users, {} a day",
            cost.phase, cost.users, cost.daily
        ));
        for (service, what, yuan) in cost.items {
            lines.push(format!("    {service:<7} {what:<32} {:>6}", format!("¥{yuan}")));
        }
        lines.push(format!(
            "    {:<7} {:<32} {:>6}",
            "total",
            "",
            format!("¥{}", cost.total)
        ));
    }
    lines.push(format!(
        "  SAE also counts requests: ¥{SAE_YUAN_PER_MILLION} a million"
    ));
    lines
}
