"""Wrong variants of the valid search space: searched fields, constraints and their points."""

from __future__ import annotations

from wrong_specs import (
    CONSTRAINT,
    CRITERION,
    DECAY,
    KINDS,
    NETWORK,
    RANGE,
    RATIO,
    SEARCH_LINE,
    ST3,
    TARGET,
    WHEN,
    Wrong,
)

SEARCH = [
    Wrong(
        "range past the field's bounds",
        {f"  sparsity.target: {RANGE}": "  ^sparsity.target: {float: [0.5, 1.2]}"},
        "search.sparsity.target: can become 1.2: must be below 1",
    ),
    Wrong(
        "choice that the field does not have",
        {"sparsity.criterion: {choice: [l1, sigma]}": "^sparsity.criterion: {choice: [l1, sigmas]}"},
        "search.sparsity.criterion: can become 'sigmas', allowed: l1, lamp, sigma, family; did you mean sigma?",
    ),
    Wrong(
        "choice misspelt that another field waits for",
        {f"  optim.weight_decay.kind: {KINDS}": "  ^optim.weight_decay.kind: {choice: [constant, cosin]}"},
        "search.optim.weight_decay.kind: can become 'cosin', allowed: constant, by_target, with_sparsity, cosine; "
        "did you mean cosine?",
    ),
    Wrong(
        "choice that a rule refuses",
        {"depth: 8, ": "", SEARCH_LINE: f"{SEARCH_LINE}  ^model.depth: {{choice: [8, 9]}}\n"},
        "model.depth: must be 6n+2: 8 or 14, at model.depth=9",
    ),
    Wrong(
        "choice that torchvision does not have",
        {NETWORK: "{arch: torchvision}",
         SEARCH_LINE: f"{SEARCH_LINE}  ^model.network: {{choice: [resnet18, resnet19]}}\n"},
        "search.model.network: can become 'resnet19': must be a convolutional classifier of torchvision; "
        "did you mean resnet18?",
    ),
    Wrong(
        "point that breaks a rule between fields",
        {SEARCH_LINE: f"{SEARCH_LINE}  ^sparsity.ramp.start: {{choice: [0.1, 0.7]}}\n"},
        "sparsity.ramp: must start before it ends (start 0.7, end 0.5 of training), at sparsity.ramp.start=0.7",
    ),
    Wrong(
        "point that lacks a field",
        {KINDS: "{choice: [cosine, with_sparsity]}", RATIO: f"  ^{RATIO.strip()}"},
        "optim.weight_decay.final_ratio: is missing: neither fixed under trial nor searched, "
        "at optim.weight_decay.kind='with_sparsity'",
    ),
    Wrong(
        "point with a field too many",
        {f"    {WHEN}\n": "", RATIO: f"  ^{RATIO.strip()}"},
        "optim.weight_decay.final_ratio: has no effect with kind constant, which has value, "
        "at optim.weight_decay.kind='constant'",
    ),
    Wrong(
        "unknown searched field",
        {"  sparsity.target:": "  ^sparsity.targt:"},
        "search.sparsity.targt: no such field in a trial; did you mean sparsity.target?",
    ),
    Wrong("searched field without its part", {SEARCH_LINE: f"{SEARCH_LINE}  ^lr: {{float: [0.1, 1]}}\n"},
          "search.lr: no such field in a trial; did you mean optim.lr?"),
    Wrong("empty search", {CRITERION: "", TARGET: "", DECAY: "", SEARCH_LINE: "^search: {}\n"},
          "search: is empty: give at least one"),
    Wrong("no search", {CRITERION: "", TARGET: "", DECAY: "", SEARCH_LINE: "", "schema:": "^schema:"},
          "search: is missing"),
    Wrong(
        "reversed range",
        {"  sparsity.target: {float: [0.5, 0.9]": "  ^sparsity.target: {float: [0.9, 0.5]"},
        "search.sparsity.target: an empty range: the lower bound 0.9 must be below the upper bound 0.5",
    ),
    Wrong(
        "logarithm of zero",
        {f"  sparsity.target: {RANGE}": "  ^sparsity.target: {float: [0, 0.9], scale: log}"},
        "search.sparsity.target: scale log needs bounds above 0, got 0",
    ),
    Wrong("one bound", {"{float: [0.5, 0.9]": "{^float: [0.5]"},
          "search.sparsity.target.float: must be two numbers: [low, high]"),
    Wrong("bound that is text", {"{float: [0.5, 0.9]": "{float: [0.5, ^high]"},
          "search.sparsity.target.float.1: must be a number (got 'high')"),
    Wrong("unknown field of a range", {"scale: log1m": "^scal: log1m"},
          "search.sparsity.target.scal: unknown field; did you mean search.sparsity.target.scale?"),
    Wrong("unknown scale", {"scale: log1m": "^scale: log1p"},
          "search.sparsity.target.scale: is 'log1p', allowed: linear, log, log1m; did you mean log1m?"),
    Wrong("scale of a choice", {"[l1, sigma]}": "[l1, sigma], ^scale: log}"},
          "search.sparsity.criterion.scale: has no effect with choice, which has when, choice"),
    Wrong("no range", {CRITERION: "  ^sparsity.criterion: l1\n"},
          "search.sparsity.criterion: needs exactly one of float: [low, high], int: [low, high] or "
          "choice: [a, b, ...]"),
    Wrong("list as a choice", {"[l1, sigma]": "[^[l1], sigma]"},
          "search.sparsity.criterion.choice.0: must be a single value: text, a number, true, false or null "
          "(got ['l1'])"),
    Wrong("choice twice", {"  sparsity.criterion: {choice: [l1, sigma]}": "  ^sparsity.criterion: {choice: [l1, l1]}"},
          "search.sparsity.criterion: duplicate value in ['l1', 'l1']"),
    Wrong("range for whole numbers",
          {"    epochs: 20\n": "", SEARCH_LINE: f"{SEARCH_LINE}  ^train.epochs: {{float: [1, 9]}}\n"},
          "search.train.epochs: is a whole number: search it with int: [low, high]"),
    Wrong("condition on a field that is not there", {WHEN: "when: {^optim.weight_decay.kid: cosine}"},
          "search.optim.weight_decay.final_ratio.when.optim.weight_decay.kid: no such field in a trial; "
          "did you mean optim.weight_decay.kind?"),
    Wrong("condition on a value that never is", {WHEN: "when: {^optim.weight_decay.kind: cosin}"},
          "search.optim.weight_decay.final_ratio.when.optim.weight_decay.kind: is never 'cosin'; "
          "its choices: constant, cosine; did you mean cosine?"),
    Wrong("condition on a fixed field", {WHEN: "when: {optim.weight_decay.kind: cosine, ^train.epochs: 30}"},
          "search.optim.weight_decay.final_ratio.when.train.epochs: is fixed to 20, so this is never active"),
    Wrong("conditions in a circle",
          {KINDS: "{^when: {optim.weight_decay.final_ratio: 1}, choice: [constant, cosine]}",
           "float: [1e-3, 1]": "choice: [0.1, 1]"},
          "search.optim.weight_decay.kind.when: circular `when`: optim.weight_decay.kind → "
          "optim.weight_decay.final_ratio → optim.weight_decay.kind"),
    Wrong("fixed and searched", {ST3: f"{ST3}    target: 0.7\n", "  sparsity.target:": "  ^sparsity.target:"},
          "search.sparsity.target: is searched, but also fixed under trial on line 12; remove one"),
    Wrong("searched below a value", {"  sparsity:\n    method: st3\n": "  ^sparsity: st3\n"},
          "sparsity: must be a mapping of names to values (got 'st3'): fields below it are searched"),
    Wrong("searched part", {SEARCH_LINE: f"{SEARCH_LINE}  ^sparsity.ramp: {{choice: [1, 2]}}\n"},
          "search.sparsity.ramp: is not a single value; search one of its fields: sparsity.ramp.start, "
          "sparsity.ramp.start.epochs, sparsity.ramp.end, sparsity.ramp.end.epochs, sparsity.ramp.power"),
    Wrong("searched resources", {SEARCH_LINE: f"{SEARCH_LINE}  ^resources.workers: {{int: [1, 4]}}\n"},
          "search.resources.workers: cannot be searched: it is not a field of a trial"),
    Wrong("grid of a range", {"sampler: tpe": "sampler: grid", TARGET: "", ST3: f"{ST3}    target: 0.5\n",
                              RATIO: f"  ^{RATIO.strip()}"},
          "search.optim.weight_decay.final_ratio: sampler grid needs choice or int here, not float"),
    Wrong("constraint that nothing satisfies", {CONSTRAINT: "- ^sparsity.target > 0.95"},
          "constraints.0: 'sparsity.target > 0.95': none of 10,000 random points satisfies it"),
    Wrong("constraints that exclude each other",
          {"constraints:": "^constraints:", CONSTRAINT: "- sparsity.target > 0.8\n  - sparsity.target < 0.6"},
          "constraints: none of 10,000 random points satisfies all of them: "
          "sparsity.target > 0.8; sparsity.target < 0.6"),
    Wrong("constraint that is cut off", {CONSTRAINT: "- ^sparsity.target <"},
          "constraints.0: 'sparsity.target <': cannot be read (invalid syntax)"),
    Wrong("constraint that calls a function", {CONSTRAINT: "- ^abs(sparsity.target) < 1"},
          "constraints.0: 'abs(sparsity.target) < 1': abs(sparsity.target) is not allowed in a constraint, only "
          "fields, numbers, text, + - * /, comparisons, and, or, not"),
    Wrong("constraint that is no condition", {CONSTRAINT: "- ^sparsity.target - 1"},
          "constraints.0: 'sparsity.target - 1': is not a condition: compare with <, <=, >, >=, == or !="),
    Wrong("constraint on an unknown field", {CONSTRAINT: "- ^sparsity.targt < 1"},
          "constraints.0: 'sparsity.targt < 1': unknown field sparsity.targt; did you mean sparsity.target?"),
    Wrong("constraint between text and a number", {CONSTRAINT: "- ^sparsity.criterion < 1"},
          "constraints.0: 'sparsity.criterion < 1': compares, or calculates with, values of different kinds"),
]  # fmt: skip
