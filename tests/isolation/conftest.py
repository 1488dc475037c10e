from tests.eventing.conftest import aws, aws_server, stack

__all__ = ["aws", "aws_server", "stack"]
