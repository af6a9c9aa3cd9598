"""The manual as a site: built without complaint, opened from disk, searched as a newcomer would."""

import importlib.util
import os
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from browser import Browser, browser_path
from manual import ROOT

# What somebody types, and the page that answers.
QUESTIONS = {
    "how do I add a cohort": "how-to/cohorts.html",
    "what does flag mean": "how-to/use-a-model.html",
    "which weights does Farahmand use": "how-to/methods.html",
    "QuPath": "how-to/maps.html",
    "out of memory": "how-to/troubleshooting.html",
    "resume a stopped run": "how-to/run.html",
}
FIRST = "document.querySelector('.md-search-result__link')?.href || ''"
EMPTY = """(() => {
  const input = document.querySelector('.md-search__input');
  input.value = '';
  input.focus();
  input.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}));
})()"""


@pytest.mark.slow
@pytest.mark.skipif(not browser_path(), reason="no browser is installed")
@pytest.mark.skipif(not importlib.util.find_spec("material"), reason="no MkDocs Material")
def test_the_search_of_the_manual_answers(tmp_path):
    site, wrong = tmp_path / "site", {}
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", site]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    build = subprocess.run(words, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    (tmp_path / "browser").mkdir()
    with Browser(tmp_path / "browser") as tab:
        tab.open(site / "index.html")
        tab.run("document.querySelector('label[for=__search]').click()")
        for question, page in QUESTIONS.items():
            tab.run(EMPTY)
            tab.until(f"!({FIRST})")
            tab.ask("Input.insertText", text=question[:-1])
            tab.press(question[-1], text=question[-1])
            with suppress(TimeoutError):  # a busy machine answers late
                tab.until(f"({FIRST}).includes('/{page}')")
            time.sleep(0.3)  # the answer to the last letter
            if f"/{page}" not in (first := tab.run(FIRST)):
                wrong[question] = first
        assert wrong == {}
        assert tab.complaints == []
        assert [address for address in tab.requests if address.startswith("http")] == []
