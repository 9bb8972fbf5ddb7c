import msgspec
import pytest

from actors.tools.base import Effect
from actors.tools.policy import Action, Decision, ToolRule, decide_policy


def decide(
    *rules: ToolRule,
    tool: str = "bash",
    effect: Effect = "execute",
    sandboxed: bool = True,
    **arguments: object,
) -> Action:
    return decide_policy(rules, tool, effect, arguments, sandboxed=sandboxed).action


def test_without_rules_all_is_allowed_but_what_executes_without_a_sandbox() -> None:
    effects: list[Effect] = ["read", "write", "execute"]
    assert [decide(effect=each) for each in effects] == ["allow"] * 3
    loose = [decide(effect=each, sandboxed=False) for each in effects]
    assert loose == ["allow", "allow", "ask"]


def test_the_first_rule_that_matches_decides() -> None:
    rules = ToolRule("write", "deny"), ToolRule("w*", "ask"), ToolRule("*", "allow")
    assert [decide(*rules, tool=each) for each in ("write", "wipe", "read")] == [
        "deny",
        "ask",
        "allow",
    ]


def test_a_decision_says_which_rule_made_it() -> None:
    rules = [ToolRule("read", "allow"), ToolRule("bash", "deny")]
    assert decide_policy(rules, "bash", "execute", {}, sandboxed=True) == Decision(
        "deny", "Rule 2 says deny to bash."
    )


def test_names_are_matched_as_they_are_written() -> None:
    assert decide(ToolRule("Bash", "deny")) == "allow"


def test_all_arguments_of_a_rule_must_match() -> None:
    rule = ToolRule("fetch", "deny", {"url": "*://internal/*", "method": "POST"})
    there = {"url": "http://internal/x", "method": "POST"}
    assert decide(rule, tool="fetch", **there) == "deny"
    assert decide(rule, tool="fetch", **{**there, "method": "GET"}) == "allow"
    assert decide(rule, tool="fetch", url="http://internal/x") == "allow"


@pytest.mark.parametrize(
    ("value", "glob"), [(5, "5"), (True, "true"), (None, "null"), (["a", 1], '[[]"a",1]')]
)
def test_an_argument_that_is_no_text_is_matched_as_json(value: object, glob: str) -> None:
    assert decide(ToolRule("*", "deny", {"it": glob}), it=value) == "deny"


def test_an_allowed_pattern_does_not_reach_into_a_second_line() -> None:
    rules = ToolRule("bash", "allow", {"command": "git *"}), ToolRule("bash", "deny")
    assert decide(*rules, command="git status") == "allow"
    assert decide(*rules, command="git status\nrm -rf .") == "deny"
    assert decide(*rules, command="git status\n") == "deny"


def test_a_pattern_with_lines_matches_line_by_line() -> None:
    rules = ToolRule("bash", "allow", {"command": "cd *\nls"}), ToolRule("bash", "deny")
    assert decide(*rules, command="cd a\nls") == "allow"
    assert decide(*rules, command="cd a\nb\nls") == "deny"


def test_a_denied_pattern_finds_what_stands_in_any_line() -> None:
    rule = ToolRule("bash", "deny", {"command": "*rm -rf*"})
    assert decide(rule, command="echo\nrm -rf .\necho") == "deny"


def test_an_allowing_rule_does_not_lift_the_question_without_a_sandbox() -> None:
    assert decide(ToolRule("bash", "allow"), sandboxed=False) == "ask"
    assert decide(ToolRule("bash", "allow", unsandboxed=True), sandboxed=False) == "allow"
    assert decide(ToolRule("bash", "deny"), sandboxed=False) == "deny"
    assert decide(ToolRule("bash", "allow"), effect="write", sandboxed=False) == "allow"


def test_a_rule_that_only_allows_in_a_sandbox_still_hides_the_rules_after_it() -> None:
    rules = ToolRule("bash", "allow"), ToolRule("bash", "allow", unsandboxed=True)
    assert decide(*rules, sandboxed=False) == "ask"


def test_a_rule_is_read_from_what_a_configuration_says_and_nothing_else() -> None:
    said = {"tool": "bash", "action": "ask", "arguments": {"command": "git push*"}}
    rule = msgspec.convert(said, ToolRule)
    assert rule == ToolRule("bash", "ask", {"command": "git push*"})
    for wrong in ({"action": "permit"}, {"argument": {}}, {"tool": 5}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({**said, **wrong}, ToolRule)
