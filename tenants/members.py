"""Members: who has which role in which tenant, and what each role is for.

A role is all that a member of the staff needs; permissions that were given by hand count for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenants.models import Membership, Role, Tenant

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

OPERATOR = "operator"
"""What a superuser is, in every tenant."""

NOBODY: frozenset[str] = frozenset()
OPERATORS = frozenset({OPERATOR})
OWNERS = OPERATORS | {Role.OWNER}
MANAGERS = OWNERS | {Role.ADMIN}
EVERYBODY = MANAGERS | {Role.VIEWER}


@dataclass(frozen=True, slots=True)
class Access:
    """The roles of a user, by tenant."""

    is_operator: bool
    roles: Mapping[int, str]

    def allows(self, who: frozenset[str], tenant_id: int | None) -> bool:
        """Whether the user is one of those in that tenant. None: of the platform's own, which is the operators'."""
        return (OPERATOR if self.is_operator else self.roles.get(tenant_id or 0)) in who

    def allows_somewhere(self, who: frozenset[str]) -> bool:
        """Whether the user is one of those in any tenant."""
        return OPERATOR in who if self.is_operator else any(role in who for role in self.roles.values())

    def tenants(self, who: frozenset[str]) -> list[int]:
        """The tenants in which the user is one of those by a membership."""
        return [tenant for tenant, role in self.roles.items() if role in who]


def access_of(user: AbstractBaseUser | AnonymousUser) -> Access:
    """What a user may do, by what stands in the database now."""
    if not user.is_active or user.pk is None:
        return Access(is_operator=False, roles={})
    if getattr(user, "is_superuser", False):
        return Access(is_operator=True, roles={})
    return Access(is_operator=False, roles=dict(Membership.objects.filter(user=user.pk).values_list("tenant", "role")))


def lock(tenant_ids: Iterable[int]) -> None:
    """Wait until nobody else changes who the members of these tenants are, or imports their files.

    Whoever asks `keeps_an_owner` before a change asks this first, in the same transaction: two owners who demote each
    other would both be told that there is another.
    """
    list(Tenant.objects.select_for_update(no_key=True).filter(pk__in=tenant_ids).order_by("pk").values_list("pk"))


def without_an_owner(leaving: Collection[int]) -> list[Tenant]:
    """The tenants that lose their last owners with these memberships."""
    tenants = Tenant.objects.filter(memberships__in=leaving, memberships__role=Role.OWNER).distinct()
    return [tenant for tenant in tenants if not keeps_an_owner(tenant, without=leaving)]


def keeps_an_owner(tenant: Tenant, without: Iterable[int]) -> bool:
    """Whether the tenant has an owner, or never had one, when these memberships are no owner's any more."""
    owners = set(Membership.objects.filter(tenant=tenant.pk, role=Role.OWNER).values_list("pk", flat=True))
    return not owners or bool(owners - set(without))
