//! Workers in one process, over the loopback interface.

mod faults;
mod flow;
mod rig;
