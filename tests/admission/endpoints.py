"""Where a Service's target leads, as the endpoints' controller looks."""


def leads_to(spec, target):
    """The port that an EndpointSlice gets of a pod: containers first, then native sidecars."""
    if isinstance(target, int):
        return target
    sidecars = [c for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"]
    for container in spec["containers"] + sidecars:
        for port in container.get("ports", []):
            if port.get("name") == target and port.get("protocol", "TCP") == "TCP":
                return port["containerPort"]
    return None
