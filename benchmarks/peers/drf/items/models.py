from django.db import models


class Item(models.Model):
    id = models.CharField(max_length=64, primary_key=True)
    name = models.CharField(max_length=200)
    status = models.CharField(max_length=9, choices=[(name, name) for name in ("available", "pending", "sold")])
    price = models.FloatField(null=True)
    tags = models.JSONField(default=list)
