package scheduler

// Search is Make as if there were too many nodes to try every order of them.
func Search(s Snapshot, m Model) (Plan, error) { return plan(s, m, 0) }
