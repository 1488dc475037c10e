"""The examples of the specification that are about rules and tenant.properties, as it prints them."""

CONFIGURATION_FORMAT = """\
[
{
"eventbridge_arn": "arn:aws:events:us-east-1:720291373173:event-bus/default",
"source": "blockforger-output",
"detail_type": "petstore.POST",
"operations": ["POST", "PUT", "PATCH", "DELETE"],
"schema_names": ["petstore", "orders"]
},
{
"eventbridge_arn": "arn:aws:events:us-east-1:720291373173:event-bus/default",
"source": "myapp.backend-output",
"operations": ["POST", "DELETE"],
"schema_names": ["analytics"]
}
]
"""

SINGLE_RULE_FOR_ALL_SCHEMAS = (
    'eventbridge-output=[{"eventbridge_arn":"arn:aws:events:us-east-1:720291373173:event-bus/default",'
    '"source":"blockforger-output","operations":["POST","PUT","DELETE"]}]\n'
)

MULTIPLE_RULES_WITH_SCHEMA_FILTERING = """\
eventbridge-output=[
{
"eventbridge_arn": "arn:aws:events:us-east-1:720291373173:event-bus/default",
"source": "blockforger-output",
"operations": ["POST", "PUT", "PATCH", "DELETE"],
"schema_names": ["petstore", "orders"]
},
{
"eventbridge_arn": "arn:aws:events:us-east-1:720291373173:event-bus/default",
"source": "blockforger-output",
"operations": ["POST", "DELETE"],
"schema_names": ["analytics", "events"]
},
{
"eventbridge_arn": "arn:aws:events:us-east-1:720291373173:event-bus/default",
"source": "blockforger-output",
"operations": ["DELETE"],
"schema_names": []
}
]
"""

INPUT_ENABLED = "eventbridge-input=true\n"

OUTPUT_EVENT = {
    "source": "blockforger-output",
    "detail-type": "petstore.POST",
    "detail": {
        "tenant": "mytenant",
        "rootSchema": "petstore",
        "operation": "POST",
        "payload": {"id": "123", "name": "Fluffy", "status": "available"},
    },
}

EVENTED_PAYLOAD = {"numeric": 21, "string": "ergyigyuhwer"}
