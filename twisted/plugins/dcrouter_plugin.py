"""`twistd dcrouter`."""

from twisted.application.service import ServiceMaker

dcrouter = ServiceMaker("dcrouter", "dcrouter.tap", "One edge for TCP and mail, from one file.", "dcrouter")
