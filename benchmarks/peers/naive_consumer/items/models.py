from django.db import models


class Item(models.Model):
    tenant = models.CharField(max_length=64)
    key = models.CharField(max_length=255)
    payload = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="one_item_per_key")]


class Account(models.Model):
    tenant = models.CharField(max_length=64, primary_key=True)
    balance = models.BigIntegerField(default=0)


class LedgerEntry(models.Model):
    tenant = models.CharField(max_length=64, db_index=True)
    amount = models.BigIntegerField()
    operation = models.UUIDField(unique=True)
    reference = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)


class Event(models.Model):
    id = models.UUIDField(primary_key=True)
    tenant = models.CharField(max_length=64, db_index=True)
    item_key = models.CharField(max_length=255)
    detail = models.TextField()
    status = models.CharField(max_length=10, default="pending", db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
