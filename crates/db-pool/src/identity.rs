/// Longer names are cut off by the server.
const LONGEST: usize = 63;

/// How a process names its connections, so that the instances of a service can be counted on the server.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    service: String,
    instance: String,
}

impl Identity {
    /// A new instance of this service. Random, because a host or a process number may come back.
    pub(crate) fn new(service: &str) -> Self {
        // The server turns other characters into question marks, and the slash separates the parts.
        let plain = |c: char| if c.is_ascii_graphic() && c != '/' { c } else { '-' };
        Self {
            service: service.chars().map(plain).take(LONGEST - 18).collect(),
            instance: format!("{:08x}", fastrand::u32(..)),
        }
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// `service/instance/purpose`; the purpose has at most eight characters.
    pub(crate) fn application_name(&self, purpose: &str) -> String {
        format!("{}/{}/{purpose}", self.service, self.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_three_parts_and_fits() {
        for service in ["asl", "a/b", "文献", "", &"x".repeat(80)] {
            let name = Identity::new(service).application_name("migrate");
            assert!(name.len() <= LONGEST && name.is_ascii(), "{name}");
            assert_eq!(name.split('/').count(), 3, "{name}");
        }
    }
}
