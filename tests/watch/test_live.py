"""A real Prometheus over a real run: Envoy, wechat-authz, Redis, logins and failures."""

import contextlib
import io
import shutil

import pytest
from demonstration.processes import Processes
from demonstration.stage import build, envoy, taking_turns
from watching import live
from watching.stage import Traffic, Watched

# The alert that the traffic causes.
FIRING = {"WechatAuthzConfigurationError"}


@pytest.fixture(scope="module")
def processes():
    with Processes() as processes:
        yield processes


@pytest.fixture(scope="module")
def stage(processes, rendered, tmp_path_factory, request):
    """The running processes, after traffic that changes every metric."""
    programs = {**build(), "envoy": envoy()}
    with taking_turns():
        stage = Watched()
        stage.build_set(programs)
        stage.open(processes, programs)
        stage.watcher = live.Prometheus(stage, rendered["inject"], tmp_path_factory.mktemp("prometheus"))
        stage.watcher.start(processes)
    with contextlib.redirect_stdout(io.StringIO()):
        Traffic(stage).play(seconds=20)
    live.settle()
    before = request.session.testsfailed
    yield stage
    if request.session.testsfailed == before:
        shutil.rmtree(stage.directory, ignore_errors=True)
    else:
        print(f"the logs are in {stage.directory}")


@pytest.fixture(scope="module")
def prometheus(stage):
    return stage.watcher


@pytest.fixture(scope="module")
def boards(rendered):
    return rendered["inject"].dashboards()


@pytest.fixture(scope="module")
def groups(rendered):
    return rendered["inject"].rules()


def test_promtool_has_no_complaint_about_the_metrics(stage):
    live.lint(stage)


def test_each_alert_evaluates_and_queries_metrics_that_exist(prometheus, groups):
    live.check_rules(prometheus, groups, FIRING)


def test_mode_gateway_queries_no_metrics_of_envoy(prometheus, rendered):
    live.check_gateway_rules(prometheus, rendered["gateway"].rules())


def test_each_query_of_each_dashboard_has_data(prometheus, boards):
    for name, board in sorted(boards.items()):
        live.check_dashboard(prometheus, name, board)


def test_mode_gateway_has_dashboards_of_mode_inject_only(rendered, boards):
    for name, board in rendered["gateway"].dashboards().items():
        assert board == boards.get(name), name


def test_a_fault_in_a_dashboard_is_noticed(prometheus, boards):
    live.check_faults_in_dashboards_are_noticed(prometheus, boards)


def test_a_fault_in_an_alert_is_noticed(prometheus, groups):
    live.check_faults_in_rules_are_noticed(prometheus, groups, FIRING)


def test_no_process_ended(stage, processes):
    processes.watch()
