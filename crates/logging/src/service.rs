/// Who is speaking: the same in every line of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// The product's name.
    pub service: String,
    /// Its version.
    pub version: String,
    /// `development`, `production`, `test`; left out of the lines when empty.
    pub env: String,
    /// Which of several equal processes; left out of the lines when empty.
    pub instance: String,
}

impl ServiceInfo {
    /// A service with its version. The instance is the machine's or container's host name.
    pub fn new(service: impl Into<String>, version: impl Into<String>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            service: service.into(),
            version: version.into(),
            env: String::new(),
            instance: host.trim().to_owned(),
        }
    }

    /// Sets the environment's name.
    pub fn with_env(mut self, env: impl Into<String>) -> Self {
        self.env = env.into();
        self
    }

    /// Sets the instance's name.
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }
}
