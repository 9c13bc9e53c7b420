"""The rules of the house as checks over a source tree. Each check returns a list of faults, empty when all is well.

Run through test_house.py, or alone: `python3 tests/house/house.py [ROOT]` prints faults and warnings.
"""
import os
import re
import subprocess
import sys
from pathlib import Path

TABLE_MARK = "<!-- rooms: read by tests/house -->"
README_LINES_MAX = 40
FILE_LINES_SOFT = 600
DOOR_LINES_SOFT = 200
FILE_BYTES_MAX = 6 << 20
CODE_SUFFIXES = {".cc", ".h"}
TEST_FILE = re.compile(r"(_test|_bench|_fuzz)\.cc$|/test_[a-z0-9_]+\.(h|cc)$")
BENCH_FILE = re.compile(r"_(bench|fuzz)\.cc$")

# Calls with the place to use instead. Matched on code without comments and strings.
BANNED_EVERYWHERE = [
    (r"\bsleep_(for|until)\s*\(|\b(usleep|nanosleep)\s*\(|(?<![\w.>:])(::)?sleep\s*\(", "a sleep: use io::Loop::after"),
    (r"\bstd::rand\b|(?<![\w.:>])s?rand\s*\(", "the C random numbers: use base's RandomStream"),
    (r"\b(strcpy|strcat|sprintf|vsprintf|gets)\s*\(", "an unbounded copy: use std::string"),
    (r"(?<![\w.>])(std::|::)?system\s*\(|\bpopen\s*\(", "a shell command"),
    (r"\bthrow\b", "an exception of our own: return a Result"),
]
BANNED_CORE_ALWAYS = [
    (r"\b(system|steady|high_resolution)_clock\b|\b(gettimeofday|clock_gettime|timespec_get)\b", "a clock: time is handed in"),
    (r"(?<![\w.>:])(std::)?time\s*\(\s*(nullptr|NULL|0|&)", "a clock: time is handed in"),
    (r"\brandom_device\b|\bstd::mt19937", "randomness: take a base RandomStream"),
    (r"(?<![\w.>])(::)?socket\s*\(\s*(AF|PF)_|\bzmq_\w+\s*\(|\bboost::asio\b", "a socket: sockets belong to io"),
]
BANNED_CORE_PRODUCT = [
    (r"\bfopen\s*\(|\b[io]?fstream\b|\bstd::filesystem\b", "a file: bytes are handed in, files belong to io"),
    (r"\bstd::(jthread|thread|async)\b|\bpthread_create\b", "a thread: core rooms start none"),
    (r"(?<![\w.>])(std::)?f?(printf|puts|putc|putchar)\s*\(|\bstd::(cout|cerr|clog)\b|\bspdlog::", "output: return values, shells write"),
    (r"\b(secure_)?getenv\s*\(", "the environment: options are handed in"),
]
BANNED_CORE_INCLUDES = re.compile(r"^(sys/socket\.h|sys/types\.h|netinet/.*|unistd\.h|boost/(asio|beast).*|zmq.*|spdlog/.*)$")
# (file, part of the message): each with its reason.
ALLOWED_CALLS = {
    ("src/base/check.cc", "output"): "the last words before abort",
}
HEAVY_INCLUDES = re.compile(r"^(boost/|simdjson|spdlog/|fmt/|yaml-cpp/|zmq|prometheus/)")
BANNED_NAME_WORDS = {"manager", "helper", "helpers", "util", "utils", "common", "misc", "handler", "processor", "pod", "backend"}
# Spelled in parts so that this file does not break its own rule.
MACHINE_PATHS = re.compile(r"(?<![\w.])/" + r"(work|root|home/[a-z]+)/[\w.]|\.\./" + r"shared\b")
PATHS_ALLOWED = re.compile(r"^(tests/golden/|tests/corpus/|data/)")


def strip_code(text):
    """C++ without comments and with empty strings; line numbers stay."""
    def blank(match):
        token = match.group(0)
        if token.startswith(("//", "/*")):
            return re.sub(r"[^\n]", "", token)
        if token.startswith(('"', "'")):
            return token[0] * 2
        return '""' + "\n" * token.count("\n")  # raw string
    return re.sub(r'R"([^(\s]*)\((?:.|\n)*?\)\1"|//[^\n]*|/\*(?:.|\n)*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'',
                  blank, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


class Tree:
    """The files of a checkout (tracked or about to be), or of a folder outside git."""

    def __init__(self, root):
        self.root = Path(root)
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=self.root, capture_output=True)
        if listed.returncode == 0 and (self.root / ".git").exists():
            names = [n for n in listed.stdout.decode().split("\0") if n]
        else:
            names = [str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file()]
        self.files = sorted(n for n in set(names) if (self.root / n).is_file() and not (self.root / n).is_symlink())
        self._text = {}

    def text(self, name):
        if name not in self._text:
            self._text[name] = (self.root / name).read_text(encoding="utf-8", errors="replace")
        return self._text[name]

    def code(self, under=("src/", "tests/")):
        return [n for n in self.files if n.startswith(under) and Path(n).suffix in CODE_SUFFIXES]

    def rooms(self):
        return sorted({n.split("/")[1] for n in self.files if n.startswith("src/") and n.count("/") >= 2})

    def built_rooms(self):
        """Rooms with code of their own; others are to come."""
        return [r for r in self.rooms()
                if any(n.startswith(f"src/{r}/") and n.endswith(".cc") for n in self.files)]


def includes(text):
    for match in re.finditer(r'(?m)^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', text):
        yield line_of(text, match.start()), match.group(1) or match.group(2), match.group(1) is not None


def room_table(tree):
    """{room: (kind, set of rooms it may include or None for all)} from docs/architecture.md; faults in the table itself."""
    text = tree.text("docs/architecture.md") if "docs/architecture.md" in tree.files else ""
    if TABLE_MARK not in text:
        return {}, [f"docs/architecture.md: the mark '{TABLE_MARK}' before the table of rooms is missing"]
    table, faults = {}, []
    for row in text.split(TABLE_MARK, 1)[1].strip().split("\n"):
        if not row.startswith("|"):
            break
        cells = [c.strip() for c in row.strip("|").split("|")]
        if len(cells) != 4 or not cells[0].startswith("`"):
            continue
        name, kind, allowed = cells[0].strip("`"), cells[1], cells[3].split()
        if kind not in ("core", "shell"):
            faults.append(f"docs/architecture.md: {name} is neither core nor shell but '{kind}'")
        table[name] = (kind, None if allowed == ["everything"] else set(allowed) - {"std"})
    for name, (kind, allowed) in table.items():
        for other in sorted(allowed or ()):
            if other not in table:
                faults.append(f"docs/architecture.md: {name} may include '{other}', which is no room")
            elif kind == "core" and table[other][0] == "shell":
                faults.append(f"docs/architecture.md: the core room {name} may not include the shell room {other}")
    return table, faults + table_cycles(table)


def table_cycles(table):
    done = set()
    while True:
        ready = {n for n, (_, allowed) in table.items() if n not in done and (allowed is None or allowed & set(table) <= done)}
        if not ready:
            break
        done |= ready
    left = sorted(set(table) - done)
    return [f"docs/architecture.md: these rooms include each other in a circle: {', '.join(left)}"] if left else []


def door_headers(tree, room):
    """The door and the headers beside it that it exports, directly or through one another."""
    door, todo = set(), [f"src/{room}/{room}.h"]
    while todo:
        name = todo.pop()
        if name in door or name not in tree.files:
            continue
        door.add(name)
        todo += [f"src/{inc}" for _, inc, _ in includes(tree.text(name)) if inc.startswith(room + "/")]
    return door


def test_deps(tree, room):
    name = f"src/{room}/CMakeLists.txt"
    text = tree.text(name) if name in tree.files else ""
    match = re.search(r"TEST_DEPS\s+([a-z0-9_\s]+?)(?=\s+[A-Z]+\b|\s*\))", text)
    return set(match.group(1).split()) if match else set()


def check_includes(tree):
    """No include edge outside the table; other rooms only through their doors."""
    table, faults = room_table(tree)
    rooms = set(tree.rooms()) | set(table)
    doors = {room: door_headers(tree, room) for room in rooms}
    for room in tree.rooms():
        if room not in table:
            faults.append(f"src/{room}: the room is missing in the table of docs/architecture.md")
    for name in tree.code(("src/",)):
        room = name.split("/")[1]
        if room not in table or name.count("/") < 2:
            continue
        is_test = TEST_FILE.search(name) is not None
        allowed = table[room][1]
        for line, inc, quoted in includes(tree.text(name)):
            other = inc.split("/")[0]
            if not quoted or "/" not in inc or other == room or other not in rooms:
                continue
            target = f"src/{inc}"
            if is_test and Path(inc).name.startswith("test_"):
                continue
            if allowed is not None and other not in allowed and not (is_test and other in test_deps(tree, room)):
                faults.append(f"{name}:{line}: {room} may not include {other} (docs/architecture.md)")
            elif target not in doors[other]:
                faults.append(f"{name}:{line}: {inc} is private to {other}: include {other}/{other}.h")
    for room in tree.rooms():  # what is linked is what may be included
        name = f"src/{room}/CMakeLists.txt"
        match = re.search(r"warmpath_room\(\w+\s[^)]*?\bDEPS\s+([a-z0-9_\s]+?)(?=\s+[A-Z]+\b|\s*\))",
                          tree.text(name) if name in tree.files else "")
        if match and room in table and table[room][1] is not None:
            for other in sorted(set(match.group(1).split()) - table[room][1]):
                faults.append(f"{name}: {room} may not link {other} (docs/architecture.md)")
    return faults


def check_calls(tree):
    """Banned calls: everywhere, and what core rooms may not do."""
    table, _ = room_table(tree)
    faults = []
    for name in tree.code():
        parts = name.split("/")
        core = parts[0] == "src" and len(parts) > 2 and table.get(parts[1], ("", None))[0] == "core"
        rules = list(BANNED_EVERYWHERE)
        if core and not BENCH_FILE.search(name):
            rules += BANNED_CORE_ALWAYS
            if not TEST_FILE.search(name):
                rules += BANNED_CORE_PRODUCT
                for line, inc, _ in includes(tree.text(name)):
                    if BANNED_CORE_INCLUDES.match(inc):
                        faults.append(f"{name}:{line}: a core room includes {inc}")
        code = strip_code(tree.text(name))
        for pattern, what in rules:
            for match in re.finditer(pattern, code):
                if any(name == place and what.startswith(start) for place, start in ALLOWED_CALLS):
                    continue
                faults.append(f"{name}:{line_of(code, match.start())}: '{match.group(0).strip()}' is {what}")
    return faults


def name_words(name):
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]


def check_names(tree):
    """Names that say nothing, in files, folders and types."""
    faults = []
    for name in tree.files:
        if name.startswith(("src/", "tests/", "tools/", "bench/", "examples/")) and not name.startswith(("tests/golden/", "tests/corpus/")):
            for part in Path(name).parts:
                bad = BANNED_NAME_WORDS & set(name_words(part))
                if bad:
                    faults.append(f"{name}: a file or folder is not named '{min(bad)}': say what it is")
    for name in tree.code():
        code = strip_code(tree.text(name))
        for match in re.finditer(r"\b(?:class|struct|enum(?:\s+class)?|concept)\s+([A-Z]\w*)|\busing\s+([A-Z]\w*)\s*=", code):
            type_name = match.group(1) or match.group(2)
            bad = BANNED_NAME_WORDS & set(name_words(type_name))
            if bad:
                faults.append(f"{name}:{line_of(code, match.start())}: the type {type_name} is not named '{min(bad)}': say what it is")
    return faults


def check_rooms(tree):
    """Every built room has its door, a short README and a test; headers are guarded; doors stay light."""
    faults = []
    for room in tree.built_rooms():
        inside = [n for n in tree.files if n.startswith(f"src/{room}/")]
        if f"src/{room}/{room}.h" not in inside:
            faults.append(f"src/{room}: the door {room}.h is missing")
        if f"src/{room}/README.md" not in inside:
            faults.append(f"src/{room}: README.md is missing (purpose, door, invariants, a picture)")
        elif tree.text(f"src/{room}/README.md").count("\n") > README_LINES_MAX:
            faults.append(f"src/{room}/README.md: more than {README_LINES_MAX} lines")
        if not any(n.endswith("_test.cc") for n in inside):
            faults.append(f"src/{room}: there is no *_test.cc")
        for header in sorted(door_headers(tree, room)):
            for line, inc, _ in includes(tree.text(header)):
                if HEAVY_INCLUDES.match(inc):
                    faults.append(f"{header}:{line}: {inc} in a door makes every user pay: include it in a .cc file")
    for name in tree.code():
        if name.endswith(".h") and not re.search(r"(?m)^#pragma once$", tree.text(name)):
            faults.append(f"{name}: '#pragma once' is missing")
    return faults


def check_files(tree):
    """No machine's own paths, no build products, nothing huge."""
    faults = []
    for name in tree.files:
        path = tree.root / name
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            faults.append(f"{name}: {size} bytes; at most {FILE_BYTES_MAX}")
            continue
        raw = path.read_bytes()
        if raw.startswith((b"\x7fELF", b"!<arch>", b"MZ")) or name.endswith((".o", ".a", ".so", ".pyc", ".exe")):
            faults.append(f"{name}: a build product does not belong into the repository")
        elif PATHS_ALLOWED.match(name):
            continue
        elif b"\0" in raw:
            faults.append(f"{name}: binary content outside tests/golden, tests/corpus and data")
        else:
            for match in MACHINE_PATHS.finditer(raw.decode(errors="replace")):
                line = line_of(raw.decode(errors="replace"), match.start())
                faults.append(f"{name}:{line}: '{match.group(0)}…' is a path of one machine")
    return faults


def check_docs(tree):
    """Links between the documents lead somewhere; folders of data say where they come from."""
    faults = []
    for name in tree.files:
        if not name.endswith(".md"):
            continue
        text = re.sub(r"(?ms)^```.*?^```", lambda m: "\n" * m.group(0).count("\n"), tree.text(name))
        for match in re.finditer(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            target = match.group(1)
            if re.match(r"[a-z]+:", target):
                continue
            if not os.path.exists(os.path.normpath(tree.root / Path(name).parent / target)):
                faults.append(f"{name}:{line_of(text, match.start())}: the link '{target}' leads nowhere")
    for folder in sorted({str(Path(n).parent) for n in tree.files if re.match(r"(tests/golden|data)/", n)}):
        parts = Path(folder).parts
        above = [str(Path(*parts[:i])) for i in range(1, len(parts) + 1)]
        if not any(f"{up}/README.md" in tree.files for up in above if up not in ("tests",)):
            faults.append(f"{folder}: no README.md says where its files come from, and under what licence")
    return faults


def size_warnings(tree):
    """Soft limits: printed, never failed."""
    doors = {h for room in tree.rooms() for h in door_headers(tree, room)}
    out = []
    for name in tree.code():
        lines = tree.text(name).count("\n")
        limit = DOOR_LINES_SOFT if name in doors else FILE_LINES_SOFT
        if lines > limit:
            out.append(f"{name}: {lines} lines; from {limit} on, think of splitting it")
    return out


CHECKS = [check_includes, check_calls, check_names, check_rooms, check_files, check_docs]

if __name__ == "__main__":
    whole = Tree(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
    found = [fault for check in CHECKS for fault in check(whole)]
    print("\n".join(found + [f"warning: {w}" for w in size_warnings(whole)]))
    sys.exit(1 if found else 0)
