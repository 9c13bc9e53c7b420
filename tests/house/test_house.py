#!/usr/bin/env python3
"""This tree keeps the rules of the house, and each rule would notice if it did not: one planted fault a case."""
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import house  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

TABLE = f"""# Architecture
{house.TABLE_MARK}
| room | kind | holds | may include |
|---|---|---|---|
| `base` | core | words | std |
| `index` | core | map | base |
| `io` | shell | sockets | base |
| `app` | shell | main | everything |
| `later` | core | to come | base index |

after the table
| `no` | room | at | all |
"""

CLEAN = {
    "docs/architecture.md": TABLE,
    "src/base/base.h": '#pragma once\n#include "base/text.h"\n',
    "src/base/text.h": "#pragma once\n",
    "src/base/secret.h": "#pragma once\n",
    "src/base/base.cc": '#include "base/base.h"\n#include "base/secret.h"\n',
    "src/base/base_test.cc": '#include "base/base.h"\n#include <fstream>\n#include <thread>\nstd::thread t;\nstd::ifstream f;\n',
    "src/base/test_words.h": "#pragma once\n",
    "src/base/README.md": "# base\n",
    "src/base/CMakeLists.txt": "warmpath_room(base LIBS Threads::Threads)\n",
    "src/index/index.h": '#pragma once\n#include "base/base.h"\n',
    "src/index/index.cc": '#include "index/index.h"\n#include "base/text.h"\n// sleep_for(1); throw\nconst char* k = "std::cout throw";\n',
    "src/index/index_test.cc": '#include "base/test_words.h"\n',
    "src/index/README.md": "# index\n",
    "src/index/CMakeLists.txt": "warmpath_room(index DEPS base)\n",
    "src/io/io.h": "#pragma once\n",
    "src/io/io.cc": '#include "io/io.h"\n#include <boost/asio.hpp>\nauto n = std::chrono::steady_clock::now();\n',
    "src/io/io_test.cc": "int x;\n",
    "src/io/README.md": "# io\n",
    "src/app/app.h": '#pragma once\n#include "io/io.h"\n#include "index/index.h"\n',
    "src/app/app.cc": '#include "app/app.h"\n',
    "src/app/app_test.cc": "int x;\n",
    "src/app/README.md": "# app\n[up](../../docs/architecture.md#x) [web](https://example.org/x)\n",
    "tests/golden/x/frame.bin": "\0\1",
    "tests/golden/x/README.md": "# where from\n",
    "README.md": "# x\n```\n[no](link)\n```\n",
}

# What is planted: {file: new content or None}, and a part of the fault that has to come.
PLANTED = {
    "check_includes": [
        ({"src/index/index.cc": '#include "io/io.h"\n'}, "src/index/index.cc:1: index may not include io"),
        ({"src/base/text.h": '#pragma once\n#include "index/index.h"\n'}, "src/base/text.h:2: base may not include index"),
        ({"src/index/index_test.cc": '#include "io/io.h"\n'}, "index may not include io"),
        ({"src/index/index.cc": '#include "base/secret.h"\n'}, "base/secret.h is private to base"),
        ({"src/index/index.cc": '#include "base/test_words.h"\n'}, "base/test_words.h is private to base"),
        ({"src/index/index.cc": '#include "later/later.h"\n'}, "index may not include later"),
        ({"src/index/CMakeLists.txt": "warmpath_room(index\n  DEPS base io LIBS x)\n"}, "index may not link io"),
        ({"src/attic/attic.cc": "int x;\n"}, "src/attic: the room is missing in the table"),
        ({"docs/architecture.md": TABLE.replace("map | base |", "map | base io |")}, "core room index may not include the shell room io"),
        ({"docs/architecture.md": TABLE.replace("words | std |", "words | index |")}, "in a circle: base, index"),
        ({"docs/architecture.md": TABLE.replace("map | base |", "map | bose |")}, "'bose', which is no room"),
        ({"docs/architecture.md": TABLE.replace("| core | map", "| soft | map")}, "neither core nor shell"),
        ({"docs/architecture.md": "# no table\n"}, "the mark"),
    ],
    "check_calls": [({"src/index/index.cc": f"int x;\nvoid f() {{ {call}; }}\n"}, "src/index/index.cc:2") for call in (
        "std::this_thread::sleep_for(x)", "usleep(5)", "::sleep(1)", "std::rand()", "srand(1)", "strcpy(a, b)", "sprintf(a, b)",
        "system(\"ls\")", "std::system(x)", "throw 1", "std::chrono::system_clock::now()", "steady_clock::now()", "time(nullptr)",
        "std::time(0)", "std::random_device d", "socket(AF_INET, 1, 0)", "zmq_poll(x)", "std::ifstream f", "fopen(a, b)",
        "std::thread t", "std::async(f)", "printf(\"x\")", "std::cout << 1", "fprintf(stderr, \"x\")", "getenv(\"X\")",
        "std::getenv(\"X\")")] + [
        ({"src/index/index.cc": "#include <sys/socket.h>\n"}, "a core room includes sys/socket.h"),
        ({"src/index/index_test.cc": "auto t = std::chrono::steady_clock::now();\n"}, "a clock"),
        ({"src/io/io.cc": "void f() { sleep_until(x); }\n"}, "a sleep"),
        ({"src/app/app.cc": "void f() { throw 1; }\n"}, "an exception of our own"),
        ({"tests/integration/x.cc": "void f() { usleep(1); }\n"}, "a sleep"),
        ({"src/index/index.cc": 'auto a = R"(x)"; void f() { throw 1; }\n'}, "an exception"),
        ({"src/index/index.cc": "int a = 1'000'000; void f() { throw 2'0; }\n"}, "an exception"),
    ],
    "check_names": [
        ({"src/index/block_manager.cc": "int x;\n"}, "not named 'manager'"),
        ({"src/index/utils.h": "#pragma once\n"}, "not named 'utils'"),
        ({"src/common/common.cc": "int x;\n"}, "not named 'common'"),
        ({"tools/helper.py": "x = 1\n"}, "not named 'helper'"),
        ({"src/index/index.cc": "class RequestHandler {};\n"}, "the type RequestHandler"),
        ({"src/index/index.cc": "enum class PodState {};\n"}, "the type PodState"),
        ({"src/index/index.cc": "using EventProcessor = int;\n"}, "the type EventProcessor"),
    ],
    "check_rooms": [
        ({"src/index/README.md": None}, "src/index: README.md is missing"),
        ({"src/index/README.md": "x\n" * 41}, "more than 40 lines"),
        ({"src/index/index_test.cc": None}, "there is no *_test.cc"),
        ({"src/index/index.h": None}, "the door index.h is missing"),
        ({"src/index/index.h": '#pragma once\n#include <boost/asio.hpp>\n'}, "in a door makes every user pay"),
        ({"src/base/text.h": '#pragma once\n#include <fmt/core.h>\n'}, "src/base/text.h:2"),
        ({"src/base/secret.h": "int x;\n"}, "'#pragma once' is missing"),
    ],
    "check_files": [
        ({"src/index/index.cc": "// see /" + "work/main/x\n"}, "a path of one machine"),
        ({"run": "cat /" + "root/x\n"}, "a path of one machine"),
        ({"README.md": "see ../" + "shared/x\n"}, "a path of one machine"),
        ({"CMakeLists.txt": "set(X /" + "home/ada/x)\n"}, "a path of one machine"),
        ({"src/index/x.o": "x"}, "a build product"),
        ({"tests/golden/x/lib": "\x7fELF"}, "a build product"),
        ({"docs/picture": "a\0b"}, "binary content"),
        ({"data/huge.txt": "x" * (house.FILE_BYTES_MAX + 1)}, "at most"),
    ],
    "check_docs": [
        ({"README.md": "[gone](docs/gone.md)\n"}, "README.md:1: the link 'docs/gone.md' leads nowhere"),
        ({"tests/golden/x/README.md": None}, "tests/golden/x: no README.md says where"),
    ],
}


def tree_with(changes):
    folder = tempfile.TemporaryDirectory()
    for name, content in {**CLEAN, **changes}.items():
        if content is None:
            continue
        path = Path(folder.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    tree = house.Tree(folder.name)
    return folder, tree


class Planted(unittest.TestCase):
    """Every check finds what it is for, and nothing in a clean tree."""

    def test_every_check_has_a_planted_fault(self):
        self.assertEqual(set(PLANTED), {check.__name__ for check in house.CHECKS})

    def test_a_clean_tree_is_clean(self):
        folder, tree = tree_with({})
        with folder:
            for check in house.CHECKS:
                self.assertEqual(check(tree), [], check.__name__)

    def test_size_warning(self):
        folder, tree = tree_with({"src/index/index.h": "#pragma once\n" * 201})
        with folder:
            self.assertEqual(len(house.size_warnings(tree)), 1)


def planted_case(check, changes, expected):
    def run(self):
        folder, tree = tree_with(changes)
        with folder:
            faults = check(tree)
            self.assertTrue(any(expected in fault for fault in faults), f"not found: {expected!r} in {faults}")
    return run


for check in house.CHECKS:
    for number, (changes, expected) in enumerate(PLANTED.get(check.__name__, [])):
        setattr(Planted, f"test_{check.__name__}_{number}", planted_case(check, changes, expected))


class ThisTree(unittest.TestCase):
    """The repository itself."""

    @classmethod
    def setUpClass(cls):
        cls.tree = house.Tree(ROOT)

    def test_it_is_really_looked_at(self):
        self.assertIn("base", self.tree.built_rooms())
        table, faults = house.room_table(self.tree)
        self.assertEqual(faults, [])
        self.assertGreaterEqual(len(table), 25)
        self.assertIn("src/base/text.h", house.door_headers(self.tree, "base"))

    def test_sizes(self):
        for warning in house.size_warnings(self.tree):
            print("warning:", warning)


def tree_case(check):
    def run(self):
        faults = check(self.tree)
        self.assertEqual(faults, [], "\n" + "\n".join(faults))
    return run


for check in house.CHECKS:
    setattr(ThisTree, f"test_{check.__name__}", tree_case(check))

if __name__ == "__main__":
    unittest.main()
