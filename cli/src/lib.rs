//! StreamJobs from the command line.
