//! Which traces are sent.

use zhuji_logging::TraceId;

use super::config::{OtelConfig, SamplerKind};

#[derive(Clone, Copy, Debug)]
pub(super) struct Sampler {
    kind: SamplerKind,
    /// Traces whose id is below it belong to the share.
    bound: u64,
}

impl Sampler {
    pub(super) fn new(config: &OtelConfig) -> Self {
        let share = config.sampler_arg.unwrap_or(1.0);
        // Half the range of the integers, as all of OpenTelemetry counts it; the cast saturates.
        let bound = (share * (1_u64 << 63) as f64) as u64;
        Self {
            kind: config.sampler,
            bound,
        }
    }

    /// Whether a trace is sent, given what its caller decided, if there is one.
    pub(super) fn samples(&self, trace: TraceId, caller: Option<bool>) -> bool {
        let in_share = || {
            let [.., a, b, c, d, e, f, g, h] = trace.to_bytes();
            u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.bound
        };
        match self.kind {
            SamplerKind::AlwaysOn => true,
            SamplerKind::AlwaysOff => false,
            SamplerKind::Ratio => in_share(),
            SamplerKind::ParentOrOn => caller.unwrap_or(true),
            SamplerKind::ParentOrOff => caller.unwrap_or(false),
            SamplerKind::ParentOrRatio => caller.unwrap_or_else(in_share),
        }
    }
}

#[cfg(test)]
mod tests {
    use zhuji_logging::TraceContext;

    use super::*;

    fn sampler(kind: SamplerKind, share: f64) -> Sampler {
        Sampler::new(&OtelConfig {
            sampler: kind,
            sampler_arg: Some(share),
            ..OtelConfig::default()
        })
    }

    #[test]
    fn the_caller_decides_where_it_is_asked() {
        let id = TraceContext::new().trace_id();
        for (kind, alone, refused, taken) in [
            (SamplerKind::AlwaysOn, true, true, true),
            (SamplerKind::AlwaysOff, false, false, false),
            (SamplerKind::ParentOrOn, true, false, true),
            (SamplerKind::ParentOrOff, false, false, true),
            (SamplerKind::ParentOrRatio, false, false, true),
        ] {
            let of = |caller| sampler(kind, 0.0).samples(id, caller);
            assert_eq!(
                (of(None), of(Some(false)), of(Some(true))),
                (alone, refused, taken),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_share_is_a_share_and_the_same_in_every_service() {
        let ids: Vec<_> = (0..10_000).map(|_| TraceContext::new().trace_id()).collect();
        let taken = |share| {
            ids.iter()
                .filter(move |id| sampler(SamplerKind::Ratio, share).samples(**id, None))
        };
        assert_eq!((taken(0.0).count(), taken(1.0).count()), (0, 10_000));
        let tenth: Vec<_> = taken(0.1).collect();
        assert!((800..1200).contains(&tenth.len()), "{}", tenth.len());
        let half: Vec<_> = taken(0.5).collect();
        assert!(
            tenth.iter().all(|id| half.contains(id)),
            "a larger share holds the smaller one"
        );
    }
}
