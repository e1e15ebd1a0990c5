"""Where objects meet: one class for each child process, and the halves know nothing of each other.

parent   reads the configuration, binds ports, owns certificates, supervises   (control/parent)
edge     accepts, matches, relays                                              (proxy/edge)
mail     receives, keeps, sends                                                (mail/mta)
handlers runs the operator's own code                                          (handlers/handlers)
"""
