"""Long work beside a live view: order, progress, Cancel, failures."""

import subprocess
import sys
import threading
import time

import pytest

from widgets.panes.jobs import Job, Progress, turn_of


class Model:
    """Anything that can be referred to weakly."""


def test_jobs_of_one_model_never_run_at_once_and_change_places_at_each_report():
    model, order, inside = Model(), [], threading.Semaphore(1)
    ready = threading.Event()

    def work(name: str):
        def steps(job: Job) -> None:
            ready.wait(60)
            for i in range(4):
                assert inside.acquire(blocking=False), "two jobs at once"
                order.append(name)
                inside.release()
                job.report(i + 1, 4)

        return steps

    with turn_of(model):
        jobs = [Job(work(name), model, lambda progress: None) for name in "ab"]
        assert [job.progress.stage for job in jobs] == ["waiting", "waiting"]
        ready.set()
        while len(turn_of(model)._queue) < 3:
            time.sleep(0.001)
    assert [job.wait(60).stage for job in jobs] == ["done", "done"]
    assert "".join(order) in ("abababab", "babababa")


def test_jobs_of_two_models_do_not_wait_for_each_other():
    hold, models = threading.Event(), [Model(), Model()]
    first = Job(lambda job: hold.wait(60) and None, models[0], lambda progress: None)
    assert Job(lambda job: None, models[1], lambda progress: None).wait(60).stage == "done"
    hold.set()
    assert first.wait(60).stage == "done"


def test_cancel_ends_the_work_and_is_the_last_word():
    said: list[Progress] = []
    begun = threading.Event()

    def work(job: Job) -> None:
        while not job.is_cancelled:
            begun.set()
            job.report(1, 10)

    job = Job(work, Model(), said.append)
    begun.wait(60)
    job.cancel()
    assert job.wait(60).stage == "cancelled" and said[-1].stage == "cancelled" and not job.thread.is_alive()


def test_work_of_which_half_is_worth_nothing_ends_where_it_is_cancelled():
    steps: list[int] = []

    def work(job: Job) -> None:
        for i in range(10):
            if i == 3:
                job.cancel()
            job.go_on(i, 10)
            steps.append(i)

    model = Model()
    assert Job(work, model, lambda progress: None).wait(60)[:3] == ("cancelled", 3, 10)
    assert steps == [0, 1, 2] and not turn_of(model).is_taken


def test_telling_keeps_the_turn_and_reporting_gives_it():
    """Inside of a hook no other job may run the model."""
    model, order, may_begin = Model(), [], threading.Event()

    def work(job: Job) -> None:
        may_begin.wait(60)
        for step in (job.tell, job.tell, job.report):
            step(1, 3)
            order.append("first")

    first = Job(work, model, lambda progress: None)
    second = Job(lambda job: order.append("second"), model, lambda progress: None)
    while len(turn_of(model)._queue) < 2:
        time.sleep(0.001)
    may_begin.set()
    assert [job.wait(60).stage for job in (first, second)] == ["done", "done"]
    assert order == ["first", "first", "second", "first"]


def test_a_job_that_is_cancelled_while_it_waits_never_works():
    model, worked = Model(), []
    with turn_of(model):
        job = Job(lambda job: worked.append(1), model, lambda progress: None)
        job.cancel()
    assert job.wait(60).stage == "cancelled" and not worked


def test_what_was_typed_wrong_is_said_and_the_model_is_free_again():
    def work(job: Job) -> None:
        raise ValueError("' Sacrament' is 2 tokens")

    model = Model()
    assert Job(work, model, lambda progress: None).wait(60)[:4] == ("failed", 0, 0, "' Sacrament' is 2 tokens")
    assert not turn_of(model).is_taken


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_is_said_and_keeps_its_traceback():
    progress = Job(lambda job: 1 / 0, Model(), lambda progress: None).wait(60)  # pyright: ignore
    assert progress.stage == "failed" and progress.message == "ZeroDivisionError: division by zero"


def test_reports_reach_the_page_ten_times_a_second_at_most_and_the_last_one_always():
    said: list[Progress] = []

    def work(job: Job) -> None:
        for i in range(2000):
            job.report(i + 1, 2000)

    progress = Job(work, Model(), said.append).wait(60)
    assert (progress.done, progress.total) == (2000, 2000)
    assert len(said) <= 5 + progress.seconds / 0.1


def test_a_kernel_that_stops_ends_the_thread_first():
    code = """
import time
from widgets.panes.jobs import Job
class Model: pass
def work(job):
    while not job.is_cancelled: time.sleep(0.01)
    print("ended", flush=True)
Job(work, model := Model(), lambda progress: None)
time.sleep(0.1)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout == "ended\n" and ran.returncode == 0, ran.stderr
