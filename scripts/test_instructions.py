#!/usr/bin/env python3
"""The guard over instructions: what it compares with in each kind of checkout, and how it judges. scripts/test.sh runs this."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import instructions


class Checkouts(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.tree = pathlib.Path(self.folder.name) / "tree"
        self.tree.mkdir()

    def git(self, *words, cwd=None):
        run = subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *words], cwd=cwd or self.tree,
                             check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return run.stdout.strip()

    def commit(self, text, file="file"):
        (self.tree / file).parent.mkdir(exist_ok=True)
        (self.tree / file).write_text(text)
        self.git("add", file)
        self.git("commit", "--quiet", "-m", text)
        return self.git("rev-parse", "HEAD")

    def history(self):
        self.git("init", "--quiet", "--initial-branch=main")
        return self.commit("one"), self.commit("two")

    def test_a_branch_is_held_against_where_it_left_main(self):
        _, left = self.history()
        self.git("checkout", "--quiet", "-b", "work")
        self.commit("three")
        self.commit("four")
        self.assertEqual(instructions.base_of(self.tree)[0], left)

    def test_main_is_held_against_the_commit_before(self):
        before, _ = self.history()
        self.assertEqual(instructions.base_of(self.tree)[0], before)

    def test_on_main_a_change_of_a_program_is_held_against_what_was_before_it_though_others_follow(self):
        _, before = self.history()
        self.commit("a program", "src/lib.rs")
        self.commit("a page")
        self.assertEqual(instructions.base_of(self.tree)[0], before)

    def test_files_that_are_changed_on_main_are_held_against_head(self):
        _, head = self.history()
        (self.tree / "file").write_text("changed")
        self.assertEqual(instructions.base_of(self.tree)[0], head)

    def test_the_main_of_origin_comes_before_ones_own(self):
        self.history()
        origin = pathlib.Path(self.folder.name) / "origin"
        self.git("clone", "--quiet", str(self.tree), str(origin))
        pushed = self.git("rev-parse", "HEAD", cwd=origin)
        self.tree, tree = origin, self.tree
        self.commit("on main, not pushed")
        self.commit("nor this")
        self.tree, origin = tree, self.tree
        self.assertEqual(instructions.base_of(origin)[0], pushed)

    def test_a_clone_of_one_commit_is_told_what_it_lacks(self):
        self.history()
        shallow = pathlib.Path(self.folder.name) / "shallow"
        self.git("clone", "--quiet", "--depth=1", f"file://{self.tree}", str(shallow))
        base, why = instructions.base_of(shallow)
        self.assertIsNone(base)
        self.assertIn("depth", why)

    def test_a_tree_without_git_is_told_so(self):
        base, why = instructions.base_of(self.tree)
        self.assertIsNone(base)
        self.assertIn("no git checkout", why)


class Judgement(unittest.TestCase):
    BASE = {"claim fresh": 10_000, "decode b362": 2_000}

    def verdicts(self, ours, allowed=None):
        rows, failed = instructions.judge(ours, self.BASE, allowed or {})
        return {row[0]: row[3] for row in rows}, failed

    def test_three_per_cent_pass_and_one_instruction_more_fails(self):
        verdicts, failed = self.verdicts({"claim fresh": 10_300, "decode b362": 1_000})
        self.assertEqual((verdicts["claim fresh"], failed), ("ok", False))
        verdicts, failed = self.verdicts({"claim fresh": 10_301, "decode b362": 1_000})
        self.assertEqual((verdicts["claim fresh"], failed), ("WORSE", True))

    def test_what_is_accepted_passes_up_to_its_count_and_no_further(self):
        _, failed = self.verdicts({"claim fresh": 11_000, "decode b362": 2_000}, {"claim fresh": 11_000})
        self.assertFalse(failed)
        _, failed = self.verdicts({"claim fresh": 11_001, "decode b362": 2_000}, {"claim fresh": 11_000})
        self.assertTrue(failed)

    def test_a_bench_that_is_gone_fails_and_a_new_one_passes(self):
        verdicts, failed = self.verdicts({"claim fresh": 10_000, "append fsync": 5})
        self.assertEqual((verdicts["decode b362"], verdicts["append fsync"], failed), ("GONE", "new", True))

    def test_an_acceptance_without_a_reason_is_refused(self):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write('[[accepted]]\nbench = "claim fresh"\ninstructions = 11000\nbecause = " "\n')
            file.flush()
            with self.assertRaises(instructions.Failed):
                instructions.accepted(pathlib.Path(file.name))

    def test_allocations_are_told_by_the_first_instruction_of_the_allocator(self):
        profile = """fn=surgegate::intake::take
0x1000 5 3
cfn=mi_malloc_aligned
calls=200 0x2000 7
0x1004 5 60
fn=mi_malloc_aligned
0x2004 7 9
0x2000 7 3
cfn=mi_heap_malloc_aligned
calls=3 0x3000 7
0x1ff0 7 44
fn=mi_zalloc_aligned
0x4000 7 1
"""
        self.assertEqual(instructions.allocations(profile), 4)

    def test_benches_are_numbered_as_they_stand_in_their_source(self):
        source = """
#[library_benchmark(setup = warm_body)]
#[bench::b362(362)]
#[bench::b2048(2048)]
fn decode(body: Bytes) -> bool {
#[library_benchmark(setup = table)]
#[bench::fresh(true)]
fn claim(table: Table) {
library_benchmark_group!(name = decoding, benchmarks = decode);
library_benchmark_group!(name = both, benchmarks = [claim, decode]);
main!(library_benchmark_groups = [decoding, both]);
"""
        self.assertEqual(instructions.benches(source), [
            ("decode b362", (0, 0, 0)), ("decode b2048", (0, 0, 1)),
            ("claim fresh", (1, 0, 0)), ("decode b362", (1, 1, 0)), ("decode b2048", (1, 1, 1))])


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    failed = len(result.failures) + len(result.errors)
    print(f"test result: {'FAILED' if failed else 'ok'}. {result.testsRun - failed} passed; {failed} failed; the guard itself")
    sys.exit(bool(failed))
