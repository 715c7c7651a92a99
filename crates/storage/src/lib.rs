//! Files on local disk, Alibaba Cloud OSS or in memory, behind one handle.
