"""The restricted Pod Security Standard, as its own list of controls has it."""

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def faults(spec):
    """What a pod's spec does that the standard forbids."""
    found = []
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            found.append(field)
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            found.append(f"volume {volume['name']}: {kinds - VOLUMES}")
    pod = spec.get("securityContext", {})
    for container in spec["containers"] + spec.get("initContainers", []):
        own = container.get("securityContext", {})
        effective = {**pod, **own}

        def fault(text):
            found.append(f"container {container['name']}: {text}")

        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            fault("may gain privileges")
        if "ALL" not in own.get("capabilities", {}).get("drop", []):
            fault("keeps capabilities")
        if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
            fault("adds capabilities")
        if effective.get("runAsNonRoot") is not True or effective.get("runAsUser") == 0:
            fault("may run as root")
        if effective.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            fault("no seccomp profile")
        if any(port.get("hostPort") for port in container.get("ports", [])):
            fault("host port")
        # Ours, beyond the standard.
        if own.get("readOnlyRootFilesystem") is not True:
            fault("writable root")
        if effective.get("runAsUser") != 65532:
            fault("not uid 65532")
    if spec.get("automountServiceAccountToken") is not False:
        found.append("mounts a token")
    if spec.get("enableServiceLinks") is not False:
        found.append("gets variables of Services")
    return found
