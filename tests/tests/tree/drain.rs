//! What a tree does before it stops: TREE-6, and pauses in it.

mod deadlines;
mod groups;
mod left_out;
mod restarts;
mod support;
mod waiting;
