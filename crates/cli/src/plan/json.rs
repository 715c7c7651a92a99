use serde_json::{Value, json};
use zhuji_db_pool::Plan;

use super::guide::{COSTS, DATE, RDS, SAE, SAE_YUAN_PER_MILLION};
use super::on;

pub(crate) fn of(plan: &Plan) -> Value {
    let input = &plan.input;
    json!({
        "verdict": plan.verdict.to_string(),
        "pool_size": plan.size,
        "wanted": plan.want,
        "cap": plan.cap,
        "web": plan.web,
        "jobs": plan.jobs,
        "min_idle": plan.min_idle,
        "budget": plan.budget,
        "peak": plan.peak,
        "role_connection_limit": plan.connection_limit,
        "active_target": plan.active_target.map(|(from, to)| json!({ "from": from, "to": to })),
        "rule_of_thumb": { "pool_size": plan.guide_size, "fits_a_release": plan.guide_fits },
        "advice": plan.advice,
        "input": {
            "max_connections": input.max_connections,
            "superuser_reserved": input.superuser_reserved,
            "vendor_reserved": input.vendor_reserved,
            "other": input.other,
            "instances": input.instances,
            "surge": input.surge,
            "listeners": input.listeners,
            "given_out_percent": f64::from(input.given_out) / 10.0,
            "web_weight": input.web_weight,
            "jobs_weight": input.jobs_weight,
            "per_second": input.demand.map(|demand| demand.per_second),
            "hold_seconds": input.demand.map(|demand| demand.hold.as_secs_f64()),
            "cores": input.cores,
        },
        "guide": {
            "source": "the deployment guide",
            "date": DATE,
            "currency": "CNY",
            "rds": RDS.iter().map(|size| {
                let there = on(size, input);
                json!({
                    "phase": size.phase, "series": size.series, "spec": size.spec, "cores": size.cores,
                    "memory_gb": size.memory_gb, "max_connections": size.max_connections,
                    "a_month": size.yuan_a_month, "verdict": there.verdict.to_string(), "pool_size": there.size,
                })
            }).collect::<Vec<_>>(),
            "sae": SAE.iter().map(|size| json!({
                "phase": size.phase, "spec": size.spec, "vcpu": size.vcpu, "memory_gb": size.memory_gb,
                "requests_a_day": { "from": size.requests.0, "to": size.requests.1 },
            })).collect::<Vec<_>>(),
            "sae_per_million_requests": SAE_YUAN_PER_MILLION,
            "costs_a_month": COSTS.iter().map(|cost| json!({
                "phase": cost.phase, "users": cost.users, "daily_users": cost.daily, "total": cost.total,
                "items": cost.items.iter()
                    .map(|(service, what, yuan)| json!({ "service": service, "what": what, "a_month": yuan }))
                    .collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        },
    })
}
