//! Flat one-line JSON logs for the cloud, pretty ones for people.
