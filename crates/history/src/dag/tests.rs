use super::*;
use proptest::prelude::*;
use shard_core::sha256;
use std::cell::RefCell;

/// Commits by number: the parents of each, and its time. Where `times` is short, a commit's time is its number.
#[derive(Debug)]
struct Graph {
    ids: Vec<Digest>,
    nodes: HashMap<Digest, Node>,
    fetched: RefCell<usize>,
}

impl Graph {
    fn new(parents: &[Vec<usize>], times: &[i64]) -> Self {
        let ids: Vec<Digest> = (0..parents.len()).map(|number| sha256(&number.to_le_bytes())).collect();
        let node = |number: usize| Node {
            parents: parents[number].iter().map(|parent| ids[*parent]).collect(),
            time: Timestamp::from_unix(times.get(number).copied().unwrap_or(number as i64), 0).unwrap(),
        };
        let nodes = (0..parents.len()).map(|number| (ids[number], node(number))).collect();
        Self { ids, nodes, fetched: RefCell::new(0) }
    }

    fn fetch(&self, id: &Digest) -> Result<Node, Digest> {
        *self.fetched.borrow_mut() += 1;
        self.nodes.get(id).cloned().ok_or(*id)
    }

    fn number(&self, id: &Digest) -> usize {
        self.ids.iter().position(|known| known == id).unwrap()
    }

    fn walk(&self, starts: &[usize], hidden: &[usize], order: Order) -> Result<Vec<usize>, DagError<Digest>> {
        let ids = |numbers: &[usize]| numbers.iter().map(|number| self.ids[*number]).collect::<Vec<_>>();
        let mut walk = Walk::new(&ids(starts), order, |id: &Digest| self.fetch(id));
        walk.hide(&ids(hidden))?;
        walk.map(|id| id.map(|id| self.number(&id))).collect()
    }

    /// All ancestors of a commit, itself included, from the definition.
    fn reach(&self, number: usize) -> HashSet<usize> {
        let mut reach = HashSet::from([number]);
        loop {
            let parents: Vec<usize> = reach
                .iter()
                .flat_map(|number| &self.nodes[&self.ids[*number]].parents)
                .map(|parent| self.number(parent))
                .collect();
            let before = reach.len();
            reach.extend(parents);
            if reach.len() == before {
                return reach;
            }
        }
    }
}

/// 0 - 1 - 2 - 4 - 5 with a branch 1 - 3 - 4, and 6 apart.
fn diamond() -> Graph {
    Graph::new(&[vec![], vec![0], vec![1], vec![1], vec![2, 3], vec![4], vec![]], &[])
}

#[test]
fn orders() {
    let graph = diamond();
    assert_eq!(graph.walk(&[5], &[], Order::Topological), Ok(vec![5, 4, 3, 2, 1, 0]));
    assert_eq!(graph.walk(&[5], &[], Order::FirstParent), Ok(vec![5, 4, 2, 1, 0]));
    assert_eq!(graph.walk(&[5, 6, 2, 5], &[], Order::Topological), Ok(vec![6, 5, 4, 3, 2, 1, 0]));
    assert_eq!(graph.walk(&[5], &[2], Order::Topological), Ok(vec![5, 4, 3]));
    assert_eq!(graph.walk(&[2], &[5], Order::Topological), Ok(vec![]));
    assert_eq!(graph.walk(&[5], &[1], Order::FirstParent), Ok(vec![5, 4, 2]));
    assert_eq!(graph.walk(&[], &[], Order::Topological), Ok(vec![]));
}

#[test]
fn wrong_clocks_do_not_put_parents_first() {
    // The root claims to be the newest.
    let graph = Graph::new(&[vec![], vec![0], vec![0], vec![1, 2]], &[100, 5, 6, 0]);
    assert_eq!(graph.walk(&[3], &[], Order::Topological), Ok(vec![3, 2, 1, 0]));
    assert_eq!(graph.walk(&[0, 3], &[], Order::Topological), Ok(vec![3, 2, 1, 0]));
}

#[test]
fn a_line_is_read_as_it_is_asked_for() {
    let parents: Vec<Vec<usize>> =
        (0..100_000usize).map(|number| number.checked_sub(1).into_iter().collect()).collect();
    let graph = Graph::new(&parents, &[]);
    let tip = graph.ids[99_999];
    let first: Vec<_> = Walk::new(&[tip], Order::Topological, |id: &Digest| graph.fetch(id)).take(10).collect();
    assert_eq!((first.len(), *graph.fetched.borrow()), (10, 10));
    assert_eq!(ancestors(&[tip], |id| graph.fetch(id)).map(|all| all.len()), Ok(100_000));
    assert_eq!(merge_base(&tip, &graph.ids[7], |id| graph.fetch(id)), Ok(Some(graph.ids[7])));
}

#[test]
fn ancestry() {
    let graph = diamond();
    let fetch = |id: &Digest| graph.fetch(id);
    let id = |number: usize| &graph.ids[number];
    assert_eq!(is_ancestor(id(1), id(5), fetch), Ok(true));
    assert_eq!(is_ancestor(id(5), id(5), fetch), Ok(true));
    assert_eq!(is_ancestor(id(2), id(3), fetch), Ok(false));
    assert_eq!(merge_base(id(2), id(3), fetch), Ok(Some(graph.ids[1])));
    assert_eq!(merge_base(id(5), id(3), fetch), Ok(Some(graph.ids[3])));
    assert_eq!(merge_base(id(5), id(6), fetch), Ok(None));
    assert_eq!(ahead_behind(id(5), id(3), fetch), Ok((3, 0)));
    assert_eq!(ahead_behind(id(2), id(3), fetch), Ok((1, 1)));
    // Merges in both directions leave two best common ancestors.
    let cross = Graph::new(&[vec![], vec![0], vec![0], vec![1, 2], vec![2, 1]], &[]);
    let both = merge_bases(&cross.ids[3], &cross.ids[4], |id| cross.fetch(id));
    assert_eq!(both, Ok(vec![cross.ids[2], cross.ids[1]]));
}

#[test]
fn damaged_graphs_end() {
    let missing = diamond();
    let stranger = sha256(b"stranger");
    let mut walk = Walk::new(&[stranger], Order::Topological, |id: &Digest| missing.fetch(id));
    assert_eq!(walk.next(), Some(Err(DagError::Fetch(stranger))));
    assert_eq!(walk.next(), None);
    for (parents, order) in [
        (vec![vec![0]], Order::Topological),
        (vec![vec![1], vec![0]], Order::Topological),
        (vec![vec![1], vec![0]], Order::FirstParent),
        (vec![vec![1, 2], vec![2], vec![1]], Order::Topological),
        (vec![vec![1], vec![2, 3], vec![0], vec![]], Order::Topological),
        (vec![vec![1, 2], vec![3], vec![3], vec![1]], Order::Topological),
    ] {
        let graph = Graph::new(&parents, &[]);
        assert!(matches!(graph.walk(&[0], &[], order), Err(DagError::Cycle(_))), "{parents:?}");
        let all = ancestors(&graph.ids, |id| graph.fetch(id)).unwrap();
        assert_eq!(all.len(), parents.len());
        assert_eq!(is_ancestor(&stranger, &graph.ids[0], |id| graph.fetch(id)), Ok(false));
        assert!(merge_bases(&graph.ids[0], &graph.ids[0], |id| graph.fetch(id)).is_ok());
    }
}

fn any_graph() -> impl Strategy<Value = Graph> {
    let parents = prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..25);
    (parents, prop::collection::vec(0i64..6, 25)).prop_map(|(parents, times)| {
        let parents: Vec<Vec<usize>> = parents
            .iter()
            .enumerate()
            .map(|(number, parents)| {
                let mut parents: Vec<usize> =
                    parents.iter().filter(|_| number > 0).map(|parent| parent.index(number)).collect();
                parents.sort_unstable();
                parents.dedup();
                parents
            })
            .collect();
        Graph::new(&parents, &times)
    })
}

proptest! {
    #[test]
    fn walks_are_complete_and_topological(
        graph in any_graph(), starts in prop::collection::vec(any::<prop::sample::Index>(), 1..3),
        hidden in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let numbers = |indices: &[prop::sample::Index]| -> Vec<usize> {
            indices.iter().map(|index| index.index(graph.ids.len())).collect()
        };
        let (starts, hidden) = (numbers(&starts), numbers(&hidden));
        let walk = graph.walk(&starts, &hidden, Order::Topological).unwrap();
        let left_out: HashSet<usize> = hidden.iter().flat_map(|number| graph.reach(*number)).collect();
        let expected: HashSet<usize> =
            starts.iter().flat_map(|number| graph.reach(*number)).filter(|number| !left_out.contains(number)).collect();
        prop_assert_eq!(walk.len(), expected.len());
        prop_assert_eq!(walk.iter().copied().collect::<HashSet<_>>(), expected);
        for (place, number) in walk.iter().enumerate() {
            let reach = graph.reach(*number);
            prop_assert!(!walk[..place].iter().any(|before| reach.contains(before)), "a parent before its child");
        }
    }

    #[test]
    fn merge_bases_are_the_best_common_ancestors(graph in any_graph(), a: prop::sample::Index, b: prop::sample::Index) {
        let (a, b) = (a.index(graph.ids.len()), b.index(graph.ids.len()));
        let (reach_a, reach_b) = (graph.reach(a), graph.reach(b));
        let common: HashSet<usize> = reach_a.intersection(&reach_b).copied().collect();
        let best: HashSet<usize> = common
            .iter()
            .filter(|number| !common.iter().any(|other| other != *number && graph.reach(*other).contains(number)))
            .copied()
            .collect();
        let found = merge_bases(&graph.ids[a], &graph.ids[b], |id| graph.fetch(id)).unwrap();
        prop_assert_eq!(found.iter().map(|id| graph.number(id)).collect::<HashSet<_>>(), best);
        let ancestor = is_ancestor(&graph.ids[a], &graph.ids[b], |id| graph.fetch(id)).unwrap();
        prop_assert_eq!(ancestor, reach_b.contains(&a));
        let counts = ahead_behind(&graph.ids[a], &graph.ids[b], |id| graph.fetch(id)).unwrap();
        prop_assert_eq!(counts, (reach_a.len() - common.len(), reach_b.len() - common.len()));
    }
}
