"""Observe the certificates of this host's sites, as browsers get them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address

from voiceops.adapters.certificate import served_validity
from voiceops.doctor.facts import CertificateFact
from voiceops.errors import ServiceError, UnreachableError
from voiceops.model.settings import HttpsSite, ServiceBase

_EVERY_S = 60.0
_PARTS_OF_LIFETIME = 50


def certificates(services: Mapping[str, ServiceBase], address: str = "") -> Iterable[CertificateFact]:
    """Ask each site; one that does not answer is left out, as its service is a finding of its own.

    ``address``: of another machine, whose sites are asked from here.
    """
    for name, service in services.items():
        if service.https_site is not None:
            fact = _asked(name, service.https_site, address)
            if fact is not None:
                yield fact


class CertificateReader:
    """Asks again only as often as it can matter: a monitor diagnoses every few seconds."""

    def __init__(
        self, services: Mapping[str, ServiceBase], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._services = services
        self._clock = clock
        self._found: tuple[CertificateFact, ...] = ()
        self._due = float("-inf")

    def read(self) -> tuple[CertificateFact, ...]:
        """What was found last, or is found now."""
        if self._clock() >= self._due:
            self._found = tuple(certificates(self._services))
            spans = [one.not_after - one.not_before for one in self._found if not one.error]
            self._due = self._clock() + min(_EVERY_S, *(one / _PARTS_OF_LIFETIME for one in spans), _EVERY_S)
        return self._found


def _asked(service: str, site: HttpsSite, address: str) -> CertificateFact | None:
    here = "127.0.0.1" if ip_address(site.address).is_unspecified else site.address
    try:
        shown = served_validity(address or here, site.port, site.domain)
    except ServiceError as error:
        return CertificateFact(service=service, domain=site.domain, error=error.message)
    except UnreachableError:
        return None
    return CertificateFact(
        service=service, domain=site.domain, not_before=shown.not_before, not_after=shown.not_after
    )
