use super::{Strategy, *};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use shard_core::sha256;

/// A tensor from `name:content`, of type F32 and shape [4] unless `name:content:dtype` or `name:content:dtype:length` says
/// otherwise.
fn tensor(word: &str) -> TensorInfo {
    let mut fields = word.split(':');
    let name = fields.next().unwrap().to_owned();
    let content = sha256(fields.next().unwrap().as_bytes());
    let wanted = fields.next().unwrap_or("F32");
    let dtype = *DType::ALL.iter().find(|dtype| dtype.name() == wanted).unwrap();
    TensorInfo { name, dtype, shape: vec![fields.next().unwrap_or("4").parse().unwrap()], content }
}

fn list(text: &str) -> Vec<TensorInfo> {
    text.split_whitespace().map(tensor).collect()
}

fn plan_of(lists: Merge<&[TensorInfo]>, rules: &Rules) -> TensorPlan {
    plan_tensors(lists.map(|tensors| Model { tensors, metadata: sha256(b"") }), rules)
}

fn plan(base: &str, ours: &str, theirs: &str, rules: &Rules) -> TensorPlan {
    let lists = Merge { base, ours, theirs }.map(list);
    plan_of(lists.as_ref().map(Vec::as_slice), rules)
}

fn rules(text: &str, scope: Scope) -> Rules {
    Rules::parse(text.split_whitespace(), scope).unwrap()
}

fn none() -> Rules {
    Rules::default()
}

fn lines(plan: &TensorPlan) -> Vec<String> {
    let line = |tensor: &PlannedTensor| match (tensor.action, tensor.conflict()) {
        (Action::Take(side), _) => format!("{} {}", side.as_str(), tensor.name),
        (Action::Remove, _) => format!("remove {}", tensor.name),
        (Action::Compute(strategy), _) => format!("{strategy} {}", tensor.name),
        (Action::Conflict(_), Some((kind, why))) => format!("{} {}: {}", kind.as_str(), tensor.name, why.as_str()),
        (Action::Conflict(_), None) => unreachable!(),
    };
    plan.tensors.iter().map(line).collect()
}

#[test]
fn fine_tunes_of_disjoint_layers_merge() {
    let plan = plan("a:1 b:1 c:1", "a:2 b:1 c:1", "a:1 b:2 c:1", &none());
    assert_eq!(lines(&plan), ["ours a", "theirs b", "ours c"]);
    assert_eq!((plan.lead, plan.layout, plan.conflicts().count()), (Side::Ours, Some(Side::Ours), 0));
    assert_eq!(plan.tensors[1].at, Merge { base: Some(1), ours: Some(1), theirs: Some(1) });
    assert_eq!((plan.tensors[1].ours, plan.tensors[1].theirs), (TensorChange::Equal, TensorChange::Value));
}

#[test]
fn conflicts_say_what_each_side_did() {
    let plan = plan("a:1 b:1 c:1", "a:2 b:2:BF16 n:1", "a:3 b:2 c:2:F32:8 n:2", &none());
    assert_eq!(
        lines(&plan),
        [
            "modify/modify a: both sides changed it",
            "modify/modify b: both sides changed it",
            "delete/modify c: both sides changed it",
            "add/add n: both sides changed it",
        ]
    );
    let changes: Vec<_> = plan.conflicts().map(|tensor| (tensor.ours, tensor.theirs)).collect();
    assert_eq!(
        changes,
        [
            (TensorChange::Value, TensorChange::Value),
            (TensorChange::DType, TensorChange::Value),
            (TensorChange::Removed, TensorChange::Shape),
            (TensorChange::Added, TensorChange::Added),
        ]
    );
    assert_eq!(plan.layout, None);
}

#[test]
fn what_one_side_resized_retyped_added_or_removed_is_so() {
    let (base, theirs) = ("a:1 b:1 c:1 d:1", "a:1 b:1 c:1 d:2");
    let plan = plan(base, "a:2:F32:8 b:1:F16 d:1 e:1", theirs, &none());
    assert_eq!(lines(&plan), ["ours a", "ours b", "theirs d", "ours e", "remove c"]);
    assert_eq!((plan.lead, plan.layout), (Side::Ours, Some(Side::Ours)));
    let plan = self::plan(base, theirs, "a:2:F32:8 b:1:F16 d:1 e:1", &none());
    assert_eq!(lines(&plan), ["theirs a", "theirs b", "ours d", "theirs e", "remove c"]);
    assert_eq!((plan.lead, plan.layout), (Side::Theirs, Some(Side::Theirs)), "only theirs changed the list");
}

#[test]
fn the_leading_side_s_order_and_what_only_the_other_has_after_its_neighbour() {
    let plan = plan("a:1 b:1 z:1", "b:1 x:1 a:1", "p:1 a:1 q:1 r:1 b:1 s:1 z:1", &none());
    assert_eq!(
        lines(&plan),
        ["theirs p", "ours b", "theirs s", "ours x", "ours a", "theirs q", "theirs r", "remove z"]
    );
    assert_eq!(plan.layout, None, "no file has these tensors");
    // Both added the same tensor at other places.
    let plan = self::plan("a:1 b:1", "n:1 a:1 b:1", "a:1 b:1 n:1", &none());
    assert_eq!((lines(&plan), plan.layout), (list_of(&["ours n", "ours a", "ours b"]), Some(Side::Ours)));
    // Only the order changed.
    let plan = self::plan("a:1 b:1", "a:2 b:1", "b:1 a:1", &none());
    assert_eq!((lines(&plan), plan.layout), (list_of(&["ours b", "ours a"]), Some(Side::Theirs)));
}

fn list_of(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn rules_decide_conflicts() {
    let (base, ours, theirs) =
        ("a.w:1 a.b:1 e.w:1 h:1 x:1 one:1", "a.w:2 a.b:2 e.w:2 h:2 one:2", "a.w:3 a.b:3 e.w:3 h:3 x:3 one:1");
    let found = |text: &str, scope: Scope| lines(&plan(base, ours, theirs, &rules(text, scope)));
    let text = "e.*=theirs *.b=average h=task:0.7,0.3 ours";
    assert_eq!(
        found(text, Scope::Conflicts),
        ["ours a.w", "average a.b", "theirs e.w", "task:0.7,0.3 h", "ours one", "remove x",]
    );
    assert_eq!(
        found("average", Scope::Conflicts)[4..],
        ["delete/modify x: it is not on every side that the strategy needs", "ours one"]
    );
    assert_eq!(found("average", Scope::Changes)[5], "average one", "half the way");
    assert_eq!(found("one=theirs ours", Scope::Changes)[4], "theirs one");
    assert_eq!(found("one=theirs ours", Scope::Conflicts)[4], "ours one");
    assert_eq!(found("theirs", Scope::Conflicts)[4], "theirs x");
}

#[test]
fn strategies_compute_only_what_they_can() {
    let found = |base: &str, ours: &str, theirs: &str, text: &str| {
        let plan = plan(base, ours, theirs, &rules(text, Scope::Conflicts));
        match plan.tensors[0].action {
            Action::Conflict(why) => Some(why),
            Action::Compute(_) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(found("a:1", "a:2:F32:8", "a:3", "average"), Some(Undecided::Shape));
    assert_eq!(found("a:1", "a:2:F32:8", "a:3:F32:8", "average"), None);
    assert_eq!(found("a:1", "a:2:F32:8", "a:3:F32:8", "task:1,1"), Some(Undecided::Shape));
    assert_eq!(found("a:1", "a:2:F16", "a:3", "average"), Some(Undecided::DType));
    assert_eq!(found("", "a:2", "a:3", "average"), None);
    assert_eq!(found("", "a:2", "a:3", "task:1,1"), Some(Undecided::Absent));
    for dtype in ["I64", "BOOL", "Q8_0", "F8_E8M0", "F4"] {
        let side = |content: u8| format!("a:{content}:{dtype}");
        assert_eq!(found(&side(1), &side(2), &side(3), "average"), Some(Undecided::NotFloat), "{dtype}");
    }
    for dtype in ["BF16", "F16", "F64", "C64", "F8_E4M3"] {
        let side = |content: u8| format!("a:{content}:{dtype}");
        assert_eq!(found(&side(1), &side(2), &side(3), "task:1,-1"), None, "{dtype}");
    }
}

#[test]
fn under_the_wider_scope_what_cannot_be_computed_is_taken() {
    let found = |text| {
        lines(&plan(
            "n:1:I64 e:1 f:1 g:1",
            "n:2:I64 e:1 f:1 g:2 o:1",
            "n:1:I64 e:2:F32:8 f:1 g:2",
            &rules(text, Scope::Changes),
        ))
    };
    assert_eq!(found("average"), ["ours n", "theirs e", "ours f", "ours g", "ours o"]);
    assert_eq!(found("task:0.5,0.5")[3], "task:0.5,0.5 g");
}

#[test]
fn a_removed_tensor_is_named_as_it_is_called_now() {
    let plan = plan("a:1 b:1", "x.a:1 b:1", "a:2 b:1", &none());
    let found: Vec<_> = plan.conflicts().map(|tensor| (tensor.name.as_str(), tensor.renamed_to.as_deref())).collect();
    assert_eq!(found, [("a", Some("x.a"))]);
    let plan = self::plan("a:1 b:1", "a:2 b:1", "x.a:1 b:1", &none());
    assert_eq!(plan.conflicts().next().and_then(|tensor| tensor.renamed_to.as_deref()), Some("x.a"));
}

#[test]
fn a_name_that_is_there_twice_is_two_tensors() {
    assert_eq!(lines(&plan("a:1 a:2", "a:1 a:3", "a:4 a:2", &none())), ["theirs a", "ours a"]);
    assert_eq!(lines(&plan("a:1 a:2", "a:2", "a:1 a:3", &none()))[1], "delete/modify a: both sides changed it");
}

#[test]
fn what_the_file_says_beside_its_tensors() {
    let tensors = list("a:1");
    let found = |base: &str, ours: &str, theirs: &str| {
        let model = |text: &str| Model { tensors: &tensors, metadata: sha256(text.as_bytes()) };
        let plan = plan_tensors(Merge { base, ours, theirs }.map(model), &none());
        (plan.metadata, plan.metadata_from())
    };
    assert_eq!(found("1", "1", "2"), (Changed::Theirs, Side::Theirs));
    assert_eq!(found("1", "2", "1"), (Changed::Ours, Side::Ours));
    assert_eq!(found("1", "2", "3"), (Changed::Apart, Side::Ours));
}

fn any_list() -> impl proptest::strategy::Strategy<Value = Vec<TensorInfo>> {
    prop::collection::vec("[a-d]:[1-3](:F32|:I8)?", 0..6)
        .prop_map(|words| words.iter().map(|word| tensor(word)).collect())
}

fn any_rules() -> impl proptest::strategy::Strategy<Value = Rules> {
    let text = prop::collection::vec("[a-d*]=(ours|theirs|average|task:0\\.5,0\\.25)", 0..3);
    (text, prop::sample::select(Scope::ALL.to_vec()))
        .prop_map(|(text, scope)| Rules::parse(text.iter().map(String::as_str), scope).unwrap())
}

/// The tensors of a result, if there is nothing to compute or to decide.
fn result(plan: &TensorPlan, lists: Merge<&[TensorInfo]>) -> Option<Vec<TensorInfo>> {
    let kept = plan.tensors.iter().filter(|tensor| tensor.action != Action::Remove);
    kept.map(|tensor| match tensor.action {
        Action::Take(side) => Some(lists.side(side)[tensor.at.side(side).unwrap()].clone()),
        _ => None,
    })
    .collect()
}

proptest! {
    #[test]
    fn every_tensor_is_accounted_for(base in any_list(), ours in any_list(), theirs in any_list(), rules in any_rules()) {
        let lists = Merge { base: &base[..], ours: &ours[..], theirs: &theirs[..] };
        let plan = plan_of(lists, &rules);
        let indices = |of: fn(&Merge<Option<usize>>) -> Option<usize>| {
            let mut indices: Vec<usize> = plan.tensors.iter().filter_map(|tensor| of(&tensor.at)).collect();
            indices.sort_unstable();
            indices
        };
        prop_assert_eq!(indices(|at| at.base), (0..base.len()).collect::<Vec<_>>());
        prop_assert_eq!(indices(|at| at.ours), (0..ours.len()).collect::<Vec<_>>());
        prop_assert_eq!(indices(|at| at.theirs), (0..theirs.len()).collect::<Vec<_>>());
        for tensor in &plan.tensors {
            if let Action::Compute(strategy) = tensor.action {
                let is_task = matches!(strategy, Strategy::Task { .. });
                prop_assert!(tensor.at.ours.is_some() && tensor.at.theirs.is_some());
                prop_assert!(tensor.at.base.is_some() || !is_task);
            }
            if tensor.action == Action::Remove {
                prop_assert!(tensor.at.ours.is_none() || tensor.at.theirs.is_none());
            }
        }
        if let Some(side) = plan.layout {
            let kept = plan.tensors.iter().filter(|tensor| tensor.action != Action::Remove).map(|tensor| &tensor.name);
            prop_assert!(kept.eq(lists.side(side).iter().map(|tensor| &tensor.name)));
        }
    }

    #[test]
    fn one_changed_side_is_the_result(base in any_list(), side in any_list()) {
        for lists in [
            Merge { base: &base[..], ours: &side[..], theirs: &base[..] },
            Merge { base: &base[..], ours: &base[..], theirs: &side[..] },
            Merge { base: &base[..], ours: &side[..], theirs: &side[..] },
        ] {
            prop_assert_eq!(result(&plan_of(lists, &none()), lists), Some(side.clone()));
        }
    }

    #[test]
    fn without_rules_both_ways_decide_alike(base in any_list(), ours in any_list(), theirs in any_list()) {
        let lists = Merge { base: &base[..], ours: &ours[..], theirs: &theirs[..] };
        let (forth, back) = (plan_of(lists, &none()), plan_of(lists.swap(), &none()));
        let decided = |plan: &TensorPlan| {
            let mut all: Vec<_> = plan.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.conflict())).collect();
            all.sort();
            all
        };
        prop_assert_eq!(decided(&forth), decided(&back));
        let sorted = |tensors: Option<Vec<TensorInfo>>| {
            let mut tensors = tensors.unwrap_or_default();
            tensors.sort_by(|a, b| (&a.name, a.dtype, a.content).cmp(&(&b.name, b.dtype, b.content)));
            tensors
        };
        prop_assert_eq!(sorted(result(&forth, lists)), sorted(result(&back, lists.swap())));
    }
}
