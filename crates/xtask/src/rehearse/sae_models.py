"""Holds sae.json to the vendor's published models: wheel, then the file. Prints how much was compared."""
import json
import re
import sys
import zipfile

wheel, manifest = zipfile.ZipFile(sys.argv[1]), json.load(open(sys.argv[2]))
MODELS = "alibabacloud_sae20190506/models/"
problems, compared = [], 0


def model(name):
    """The parameters of a call with their types, and what the vendor says of each."""
    text = wheel.read(f"{MODELS}_{name}_request.py").decode()
    names = dict(re.findall(r"if self\.(\w+) is not None:\n\s+result\['(\w+)'\]", text))
    types = dict(re.findall(r"^\s{8}(\w+): (\w+) = None", text, re.M))
    said = {field: words for words, field in re.findall(r"((?:\s{8}#[^\n]*\n)+)\s{8}self\.(\w+) = ", text)}
    return {names[field]: (types.get(field), said.get(field, "")) for field in names}


def check(condition, problem):
    global compared
    compared += 1
    if not condition:
        problems.append(problem)


def parsed(where, value):
    try:
        return json.loads(value)
    except (TypeError, ValueError) as error:
        problems.append(f"{where}: it has to be JSON inside a text ({error})")
        return {}


def only(where, found, known):
    for key in found:
        check(key in known, f"{where}: there is no {key}")


def described(words, *names):
    """Only what the vendor's own words mention."""
    return {name for name in names if name in words}


def probe(where, words, value):
    found = parsed(where, value)
    kinds = [kind for kind in ("exec", "httpGet", "tcpSocket") if kind in found]
    check(len(kinds) == 1, f"{where}: one method of checking, and not {kinds}")
    times = described(words, "initialDelaySeconds", "periodSeconds", "timeoutSeconds")
    only(where, found, times | {"exec", "httpGet", "tcpSocket"})
    only(where, found.get("httpGet", {}), {"path", "port", "scheme", "isContainKeyWord", "keyWord"})
    only(where, found.get("tcpSocket", {}), {"port"})


calls = {"DeployApplication": "deploy_application", "CreateApplicationScalingRule": "create_application_scaling_rule"}
only("the file", manifest, calls)
TYPES = {"str": str, "int": int, "bool": bool}
for call, name in calls.items():
    known = model(name)
    if not known:
        sys.exit(f"the models of {call} could not be read")
    for key, value in manifest.get(call, {}).items():
        check(key in known, f"{call}: there is no {key}")
        if key in known:
            wanted = TYPES.get(known[key][0])
            check(wanted is None or type(value) is wanted, f"{call}.{key}: expected {known[key][0]}, found {value!r}")

deploy, words = manifest["DeployApplication"], model("deploy_application")
pairs = {
    (int(cpu), int(memory))
    for memory, line in re.findall(r"\*\*(\d+)\*\*: corresponds to ([^\n]*) millicores", words["Memory"][1])
    for cpu in re.findall(r"\d+", line)
}
check(len(pairs) > 10, "the pairs of CPU and memory could not be read")
check((deploy.get("Cpu"), deploy.get("Memory")) in pairs, f"SAE has no {deploy.get('Cpu')} millicores with {deploy.get('Memory')} MB")
liveness = words["Liveness"][1]
for key in ("Liveness", "Readiness", "StartupProbe"):
    probe(key, liveness, deploy.get(key))
check(deploy.get("Liveness") != deploy.get("Readiness"), "the same check for liveness and readiness")
check(1 <= deploy.get("TerminationGracePeriodSeconds", 30) <= 60, "a grace period that not every edition takes")
check(deploy.get("MinReadyInstances", 0) >= 1, "a release would be an outage")
check("PreStop" not in deploy, "PreStop: the image has no shell")
logs = parsed("SlsConfigs", deploy.get("SlsConfigs"))
check([log.get("logType") for log in logs] == ["stdout"], "SlsConfigs: standard output, and nothing else")
for log in logs:
    only("SlsConfigs", log, described(words["SlsConfigs"][1], "projectName", "logDir", "logType", "logstoreName", "logtailName"))
envs = parsed("Envs", deploy.get("Envs"))
names = [env.get("name") for env in envs]
check(len(names) == len(set(names)), "Envs: a name twice")
secret_keys = described(words["Envs"][1], "name", "valueFrom", "secretId", "key")
for env in envs:
    kinds = [{"name", "value"}, secret_keys]
    check(set(env) in kinds, f"Envs: {env.get('name')} is neither a value nor a reference")
    check(env.get("valueFrom", "secretRef") == "secretRef", f"Envs: {env.get('name')} refers to no secret")
rule, words = manifest["CreateApplicationScalingRule"], model("create_application_scaling_rule")
check(re.fullmatch(r"[a-z][a-z0-9-]{0,31}", rule.get("ScalingRuleName", "")), "ScalingRuleName")
metric, said = parsed("ScalingRuleMetric", rule.get("ScalingRuleMetric")), words["ScalingRuleMetric"][1]
only("ScalingRuleMetric", metric, described(said, "maxReplicas", "minReplicas", "scaleUpRules", "scaleDownRules") | {"metrics"})
kinds = set(re.findall(r"- \*\*(\w+)\*\*: (?!The average (?:queries|response)[^\n]*Java)", said))
for one in metric.get("metrics", []):
    only("metrics", one, described(said, "metricType", "metricTargetAverageUtilization", "slbId", "slbProject", "slbLogstore", "vport"))
    check(one.get("metricType") in kinds, f"metrics: {one.get('metricType')} is not measured for this service")
for key in ("scaleUpRules", "scaleDownRules"):
    only(key, metric.get(key, {}), described(said, "step", "disabled", "stabilizationWindowSeconds"))
check(metric.get("minReplicas") == deploy.get("Replicas"), "the application starts with another number than the rule keeps")
fleet = next((env["value"] for env in envs if env["name"] == "DB_MAX_INSTANCES"), None)
check(fleet == str(metric.get("maxReplicas")), "the pools are planned for another number of instances than the rule allows")

if problems:
    sys.exit("\n".join(problems))
print(compared)
