//! The deployment guide's sizes and prices. They are what the guide says on its day, not what is charged today.

/// The day of the guide they are from.
pub(crate) const DATE: &str = "2025-11-16";
/// Yuan for 10⁶ requests of SAE, besides the instances (¥0.000110592 each).
pub(crate) const SAE_YUAN_PER_MILLION: f64 = 110.592;

/// A size of an SAE instance.
#[derive(Debug)]
pub(crate) struct Sae {
    pub(crate) phase: &'static str,
    pub(crate) spec: &'static str,
    pub(crate) vcpu: f64,
    pub(crate) memory_gb: u32,
    /// Requests a day it is meant for: from, to.
    pub(crate) requests: (u32, Option<u32>),
}

pub(crate) const SAE: &[Sae] = &[
    Sae {
        phase: "development",
        spec: "0.5C1G",
        vcpu: 0.5,
        memory_gb: 1,
        requests: (0, Some(1000)),
    },
    Sae {
        phase: "start",
        spec: "1C2G",
        vcpu: 1.0,
        memory_gb: 2,
        requests: (1000, Some(5000)),
    },
    Sae {
        phase: "growth",
        spec: "2C4G",
        vcpu: 2.0,
        memory_gb: 4,
        requests: (5000, Some(20_000)),
    },
    Sae {
        phase: "mature",
        spec: "4C8G",
        vcpu: 4.0,
        memory_gb: 8,
        requests: (20_000, None),
    },
];

/// A size of RDS for PostgreSQL.
#[derive(Debug)]
pub(crate) struct Rds {
    pub(crate) phase: &'static str,
    pub(crate) series: &'static str,
    pub(crate) spec: &'static str,
    pub(crate) cores: u32,
    pub(crate) memory_gb: u32,
    pub(crate) max_connections: u32,
    pub(crate) yuan_a_month: u32,
}

pub(crate) const RDS: &[Rds] = &[
    Rds {
        phase: "development",
        series: "basic",
        spec: "1C1G",
        cores: 1,
        memory_gb: 1,
        max_connections: 100,
        yuan_a_month: 120,
    },
    Rds {
        phase: "start",
        series: "general",
        spec: "2C4G",
        cores: 2,
        memory_gb: 4,
        max_connections: 400,
        yuan_a_month: 300,
    },
    Rds {
        phase: "growth",
        series: "general",
        spec: "4C8G",
        cores: 4,
        memory_gb: 8,
        max_connections: 800,
        yuan_a_month: 600,
    },
    Rds {
        phase: "mature",
        series: "dedicated",
        spec: "8C16G",
        cores: 8,
        memory_gb: 16,
        max_connections: 1600,
        yuan_a_month: 1200,
    },
];

impl Rds {
    pub(crate) fn parse(text: &str) -> Result<&'static Self, String> {
        let names = || RDS.iter().map(|size| size.spec).collect::<Vec<_>>().join(", ");
        RDS.iter()
            .find(|size| size.spec.eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("the guide has {}; give --max-connections for others", names()))
    }
}

/// What a phase costs a month.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) phase: &'static str,
    pub(crate) users: u32,
    pub(crate) daily: u32,
    /// Service, what of it, yuan a month.
    pub(crate) items: &'static [(&'static str, &'static str, u32)],
    /// As the guide adds it up.
    pub(crate) total: u32,
}

pub(crate) const COSTS: &[Cost] = &[
    Cost {
        phase: "start",
        users: 100,
        daily: 20,
        items: &[
            ("SAE", "1C2G × 1", 200),
            ("RDS", "2C4G general", 300),
            ("OSS", "100 GB, 10 GB traffic", 15),
            ("ACR", "private, free quota", 0),
        ],
        total: 515,
    },
    Cost {
        phase: "growth",
        users: 1000,
        daily: 200,
        items: &[
            ("SAE", "2C4G × 3 on average", 600),
            ("RDS", "4C8G general", 600),
            ("OSS", "500 GB, 50 GB traffic", 70),
            ("CDN", "100 GB traffic (optional)", 20),
        ],
        total: 1290,
    },
    Cost {
        phase: "mature",
        users: 10_000,
        daily: 2000,
        items: &[
            ("SAE", "4C8G × 10 on average", 2000),
            ("RDS", "8C16G dedicated, read replica", 2000),
            ("OSS", "2 TB, 500 GB traffic", 300),
            ("CDN", "1 TB traffic", 200),
            ("Redis", "2 GB standard", 200),
        ],
        total: 4700,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guides_sums_are_right() {
        for cost in COSTS {
            let sum: u32 = cost.items.iter().map(|(.., yuan)| yuan).sum();
            assert_eq!(sum, cost.total, "{}", cost.phase);
        }
    }

    #[test]
    fn sizes_are_found_by_name() {
        assert_eq!(Rds::parse("4c8g").map(|size| size.max_connections), Ok(800));
        assert!(Rds::parse("3C3G").is_err_and(|reason| reason.contains("2C4G")));
    }
}
