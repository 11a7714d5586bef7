//! Circles in a directed graph.

use std::collections::{BTreeMap, BTreeSet};

pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// Nodes that lead back to the first of them, which is repeated at the end.
pub fn circle(graph: &Graph) -> Option<Vec<String>> {
    fn walk(graph: &Graph, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        let here = path.last().cloned().unwrap_or_default();
        for next in graph.get(&here).into_iter().flatten() {
            if done.contains(next) {
                continue;
            }
            let first = path.iter().position(|node| node == next);
            path.push(next.clone());
            if let Some(first) = first {
                path.drain(..first);
                return true;
            }
            if walk(graph, path, done) {
                return true;
            }
            path.pop();
        }
        done.insert(here);
        false
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|node| {
        let mut path = vec![node.clone()];
        walk(graph, &mut path, &mut done).then_some(path)
    })
}

/// Groups of two or more nodes that all lead to each other.
pub fn circular_groups(graph: &Graph) -> Vec<BTreeSet<String>> {
    let mut groups: Vec<BTreeSet<String>> = Vec::new();
    for node in graph.keys() {
        if groups.iter().any(|group| group.contains(node)) {
            continue;
        }
        let from = reachable(graph, node);
        let group: BTreeSet<String> =
            from.iter().filter(|other| reachable(graph, other).contains(node)).cloned().collect();
        if group.len() > 1 {
            groups.push(group);
        }
    }
    groups
}

/// Nodes that can be reached from `start` by at least one arrow.
fn reachable(graph: &Graph, start: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![start.to_owned()];
    while let Some(node) = todo.pop() {
        for next in graph.get(&node).into_iter().flatten() {
            if seen.insert(next.clone()) {
                todo.push(next.clone());
            }
        }
    }
    seen
}

#[test]
fn circular_groups_are_complete() {
    let graph: Graph = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("f", "g"), ("g", "f")]
        .into_iter()
        .fold(Graph::new(), |mut graph, (from, to)| {
            graph.entry(from.to_owned()).or_default().insert(to.to_owned());
            graph
        });
    let groups: Vec<String> =
        circular_groups(&graph).iter().map(|group| group.iter().map(String::as_str).collect()).collect();
    assert_eq!(groups, ["abc", "fg"]);
    assert_eq!(circle(&graph).unwrap().join(""), "abca");
}
