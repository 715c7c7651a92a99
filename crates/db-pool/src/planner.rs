//! How many connections a process may have: arithmetic only, so that the same answer comes at start-up, in a test and
//! on an operator's terminal.

use std::fmt;
use std::time::Duration;

/// What the size of a pool depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PlannerInput {
    /// `max_connections` of the server.
    pub max_connections: u32,
    /// `superuser_reserved_connections` and `reserved_connections` of the server. Default: 3.
    pub superuser_reserved: u32,
    /// What the provider keeps for its own monitoring and failover. Default: 10.
    pub vendor_reserved: u32,
    /// Everything else that connects: administrators (5), migrations (2), metrics (2), other services. Default: 9.
    pub other: u32,
    /// Instances of this service at most. Default: 1.
    pub instances: u32,
    /// Instances of the old version still alive while the new ones start. Default: as many again.
    pub surge: u32,
    /// Connections an instance holds outside its pool: one for LISTEN. Default: 1.
    pub listeners: u32,
    /// Part of the budget that is given out, in thousandths; the rest is for what nobody thought of. Default: 950.
    pub given_out: u32,
    /// Share of requests in a process that also runs jobs. Default: 3.
    pub web_weight: u32,
    /// Share of jobs. Default: 1.
    pub jobs_weight: u32,
    /// What one instance has to serve, if known.
    pub demand: Option<Demand>,
    /// Cores of the server, if known: more queries than some four a core at the same time only queue inside it.
    pub cores: Option<u32>,
}

/// The load of one instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Database operations per second at the peak.
    pub per_second: f64,
    /// For how long each holds its connection (95th percentile).
    pub hold: Duration,
}

impl PlannerInput {
    /// The defaults for one instance on a server with this `max_connections`.
    pub fn new(max_connections: u32) -> Self {
        Self {
            max_connections,
            superuser_reserved: 3,
            vendor_reserved: 10,
            other: 9,
            instances: 1,
            surge: 1,
            listeners: 1,
            given_out: 950,
            web_weight: 3,
            jobs_weight: 1,
            demand: None,
            cores: None,
        }
    }

    /// The rule of thumb `max_connections / instances × 0.8`: a plan that counts no overlap in deployments, no
    /// reserved slot, no listener and nobody else.
    ///
    /// It holds only while old and new instances do not run side by side; see [`Plan::guide_fits`].
    ///
    /// ```
    /// use zhuji_db_pool::{PlannerInput, plan};
    ///
    /// assert_eq!(plan(&PlannerInput::guide(400, 10)).size, 32);
    /// ```
    pub fn guide(max_connections: u32, instances: u32) -> Self {
        Self {
            superuser_reserved: 0,
            vendor_reserved: 0,
            other: 0,
            instances,
            surge: 0,
            listeners: 0,
            given_out: 800,
            ..Self::new(max_connections)
        }
    }
}

/// Whether the plan works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Every instance gets what it needs.
    Ok,
    /// It fits, with less than the demand asks for: callers will queue.
    Tight,
    /// Fewer than two connections an instance.
    Impossible,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Tight => "TIGHT",
            Self::Impossible => "IMPOSSIBLE",
        })
    }
}

/// The answer of [`plan`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// What it was made from.
    pub input: PlannerInput,
    /// Whether it works.
    pub verdict: Verdict,
    /// Connections all instances may have together. Also what to give as `CONNECTION LIMIT` of the role.
    pub budget: u32,
    /// The most one instance can be given.
    pub cap: u32,
    /// What the demand asks for, if it was given.
    pub want: Option<u32>,
    /// Connections of one instance's pool, at least 1.
    pub size: u32,
    /// Of these, for requests.
    pub web: u32,
    /// Of these, for jobs.
    pub jobs: u32,
    /// Connections kept open while nobody uses them.
    pub min_idle: u32,
    /// `CONNECTION LIMIT` of the service's role, so that it cannot take what others need, whatever happens: the budget.
    pub connection_limit: u32,
    /// How many queries at the same time the server is best at, from `2 × cores + 1` to `4 × cores`, if the cores were
    /// given. A larger fleet of pools only moves the queue from the pools into the server.
    pub active_target: Option<(u32, u32)>,
    /// Connections the fleet holds when every pool is full and a deployment is under way.
    pub peak: u32,
    /// What the rule of thumb would give each instance.
    pub guide_size: u32,
    /// Whether the rule of thumb stays within the server's limit during a deployment.
    pub guide_fits: bool,
    /// What to do when the verdict is not [`Verdict::Ok`].
    pub advice: Vec<String>,
}

/// Sizes the pool of one instance so that the whole fleet stays within the server's limit, deployments included.
///
/// `budget = (max − reserved − other) × 0.95`, `cap = budget / (instances + surge) − listeners`,
/// `size = demand × 1.5` within `1..=cap`, or `cap` when the demand is not known.
///
/// ```
/// use zhuji_db_pool::{PlannerInput, Verdict, plan};
///
/// let mut input = PlannerInput::new(400);
/// (input.instances, input.surge) = (10, 10);
/// let plan = plan(&input);
/// assert_eq!((plan.budget, plan.size, plan.verdict), (359, 16, Verdict::Ok));
/// assert!(!plan.guide_fits); // 20 × 32 = 640
/// ```
pub fn plan(input: &PlannerInput) -> Plan {
    let reserved = input
        .superuser_reserved
        .saturating_add(input.vendor_reserved)
        .saturating_add(input.other);
    let free = u64::from(input.max_connections.saturating_sub(reserved));
    let budget = narrow(free * u64::from(input.given_out.min(1000)) / 1000);
    let fleet = input.instances.saturating_add(input.surge).max(1);
    let cap = (budget / fleet).saturating_sub(input.listeners);
    let want = input.demand.map(|demand| {
        let busy = (demand.per_second * demand.hold.as_secs_f64() * 1.5).ceil();
        // A float to integer cast saturates, and a demand that is not a number asks for nothing.
        (busy as u32).max(1)
    });
    let size = want.unwrap_or(cap).clamp(1, cap.max(1));
    let weights = u64::from(input.web_weight) + u64::from(input.jobs_weight);
    let jobs = match weights {
        0 => 1,
        _ if input.jobs_weight == 0 => 0,
        _ => narrow(u64::from(size) * u64::from(input.jobs_weight) / weights).max(1),
    };
    let web = size.saturating_sub(jobs).max(1);
    let verdict = if cap < 2 {
        Verdict::Impossible
    } else if want.is_some_and(|want| want > cap) {
        Verdict::Tight
    } else {
        Verdict::Ok
    };
    let guide_size = narrow(u64::from(input.max_connections) * 8 / 10 / u64::from(input.instances.max(1)));
    let guide_peak = u64::from(guide_size) * u64::from(fleet);
    let usable = u64::from(input.max_connections.saturating_sub(input.superuser_reserved));
    let mut made = Plan {
        input: *input,
        verdict,
        budget,
        cap,
        want,
        size,
        web,
        jobs,
        min_idle: size.min(2),
        connection_limit: budget,
        active_target: input.cores.map(|cores| {
            (
                cores.saturating_mul(2).saturating_add(1),
                cores.saturating_mul(4).max(3),
            )
        }),
        peak: fleet.saturating_mul(size.saturating_add(input.listeners)),
        guide_size,
        guide_fits: guide_peak <= usable,
        advice: Vec::new(),
    };
    if verdict != Verdict::Ok {
        made.advice = made.ways_out(reserved, fleet);
    }
    made
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Plan {
    fn ways_out(&self, reserved: u32, fleet: u32) -> Vec<String> {
        let each = self.want.unwrap_or(2).max(2).saturating_add(self.input.listeners);
        let given_out = u128::from(self.input.given_out.clamp(1, 1000));
        let needed = u128::from(each) * u128::from(fleet) * 1000 / given_out + u128::from(reserved) + 1;
        let instances = self.budget / each;
        vec![
            format!("a server with max_connections of at least {needed}"),
            format!(
                "at most {instances} instances at the same time, counting those of a deployment under way"
            ),
            "DATABASE_POOLED_URL: a transaction-mode pooler (RDS has one on port 6432)".to_owned(),
        ]
    }

    /// Says in the log what the pool got and why.
    pub(crate) fn report(&self, fixed: Option<u32>) {
        let size = fixed.unwrap_or(self.size);
        let peak = (self.input.instances.saturating_add(self.input.surge))
            .saturating_mul(size + self.input.listeners);
        if self.verdict != Verdict::Ok || peak > self.budget {
            tracing::warn!(
                verdict = %self.verdict,
                max_connections = self.input.max_connections,
                instances = self.input.instances,
                surge = self.input.surge,
                budget = self.budget,
                size,
                peak,
                ways_out = self.ways_out(self.input.superuser_reserved + self.input.vendor_reserved + self.input.other, self.input.instances + self.input.surge).join("; or "),
                "the connection pools of all instances may not fit into the server's limit"
            );
        } else {
            tracing::info!(
                max_connections = self.input.max_connections,
                instances = self.input.instances,
                surge = self.input.surge,
                budget = self.budget,
                size,
                "connection pool planned"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(max: u32, instances: u32, surge: u32) -> Plan {
        plan(&PlannerInput {
            instances,
            surge,
            ..PlannerInput::new(max)
        })
    }

    #[test]
    fn the_guide_is_a_special_case() {
        assert_eq!(plan(&PlannerInput::guide(400, 10)).size, 32);
        assert_eq!(fleet(400, 10, 10).guide_size, 32);
        assert!(fleet(400, 10, 1).guide_fits);
        assert!(!fleet(400, 10, 3).guide_fits);
    }

    #[test]
    fn a_hundred_instances_do_not_fit_a_small_server() {
        let plan = fleet(400, 100, 100);
        assert_eq!((plan.cap, plan.verdict, plan.size), (0, Verdict::Impossible, 1));
        assert_eq!(plan.advice.len(), 3);
    }

    #[test]
    fn the_fleet_never_exceeds_the_server() {
        for max in [20, 60, 100, 400, 1600, 5000] {
            for instances in 1..=100_u32 {
                for surge in [0, instances.div_ceil(4), instances] {
                    let plan = fleet(max, instances, surge);
                    if plan.verdict != Verdict::Impossible {
                        assert!(plan.peak <= plan.budget, "{max} {instances} {surge}: {plan:?}");
                        assert!(plan.budget + 22 <= max);
                    }
                }
            }
        }
    }

    /// A release in batches: each starts its new instances, waits for them, and ends as many old ones.
    fn most_in_a_release(instances: u32, batch: u32, each: u32) -> u32 {
        let (mut old, mut new, mut most) = (instances, 0, 0);
        while old > 0 {
            let step = batch.min(old);
            new += step;
            most = most.max((old + new) * each);
            old -= step;
        }
        assert_eq!(new, instances);
        most
    }

    #[test]
    fn no_release_of_one_to_a_hundred_instances_exceeds_the_server() {
        let (mut fitting, mut guide_broken) = (0, 0);
        for max in [100, 400, 800, 1600] {
            for instances in 1..=100_u32 {
                for batch in [1, instances.div_ceil(4), instances] {
                    let plan = fleet(max, instances, batch);
                    if plan.verdict == Verdict::Impossible {
                        continue;
                    }
                    fitting += 1;
                    let most = most_in_a_release(instances, batch, plan.size + plan.input.listeners);
                    assert!(
                        most <= plan.budget,
                        "{max} {instances} {batch}: {most} of {}",
                        plan.budget
                    );
                    let usable = max - plan.input.superuser_reserved;
                    let guide = most_in_a_release(instances, batch, plan.guide_size);
                    assert!(guide <= usable || !plan.guide_fits, "{max} {instances} {batch}");
                    guide_broken += u32::from(guide > usable);
                }
            }
        }
        assert!(fitting > 500 && guide_broken > 200, "{fitting} {guide_broken}");
    }

    #[test]
    fn the_ways_out_lead_out() {
        for (max, instances, per_second) in [
            (60, 10, None),
            (400, 100, None),
            (400, 10, Some(2000.0)),
            (20, 1, None),
        ] {
            let input = PlannerInput {
                instances,
                surge: instances,
                demand: per_second.map(|per_second| Demand {
                    per_second,
                    hold: Duration::from_millis(20),
                }),
                ..PlannerInput::new(max)
            };
            let stuck = plan(&input);
            assert_ne!(stuck.verdict, Verdict::Ok);
            let number = |way: &str| way.split(' ').find_map(|word| word.parse::<u32>().ok());
            let larger = PlannerInput {
                max_connections: number(&stuck.advice[0]).expect("a size"),
                ..input
            };
            assert_eq!(plan(&larger).verdict, Verdict::Ok, "{stuck:?}");
            match number(&stuck.advice[1]).expect("a number of instances") {
                0 => {}
                fewer => {
                    let fewer = PlannerInput {
                        instances: fewer,
                        surge: 0,
                        ..input
                    };
                    assert_eq!(plan(&fewer).verdict, Verdict::Ok, "{stuck:?}");
                }
            }
            assert!(stuck.advice[2].contains("DATABASE_POOLED_URL"));
        }
    }

    #[test]
    fn the_server_has_a_number_of_queries_it_is_best_at() {
        let eight = plan(&PlannerInput {
            cores: Some(8),
            ..PlannerInput::new(1600)
        });
        assert_eq!(
            (eight.active_target, eight.connection_limit),
            (Some((17, 32)), eight.budget)
        );
        assert_eq!((eight.min_idle, fleet(400, 100, 100).min_idle), (2, 1));
    }

    #[test]
    fn demand_is_met_up_to_the_cap() {
        let demand = |per_second| {
            Some(Demand {
                per_second,
                hold: Duration::from_millis(20),
            })
        };
        let input = PlannerInput {
            instances: 10,
            surge: 10,
            ..PlannerInput::new(400)
        };
        let modest = plan(&PlannerInput {
            demand: demand(200.0),
            ..input
        });
        assert_eq!(
            (modest.want, modest.size, modest.verdict),
            (Some(6), 6, Verdict::Ok)
        );
        let large = plan(&PlannerInput {
            demand: demand(2000.0),
            ..input
        });
        assert_eq!(
            (large.want, large.size, large.verdict),
            (Some(60), 16, Verdict::Tight)
        );
        let absurd = plan(&PlannerInput {
            demand: demand(f64::NAN),
            ..input
        });
        assert_eq!(absurd.size, 1);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let all = u32::MAX;
        let input = PlannerInput {
            superuser_reserved: all,
            vendor_reserved: all,
            other: all,
            instances: all,
            surge: all,
            listeners: all,
            given_out: all,
            web_weight: all,
            jobs_weight: all,
            ..PlannerInput::new(all)
        };
        assert_eq!(plan(&input).size, 1);
        assert_eq!(
            plan(&PlannerInput {
                instances: 0,
                surge: 0,
                ..PlannerInput::new(0)
            })
            .size,
            1
        );
    }
}
