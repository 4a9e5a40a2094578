"""Keep Adobe Campaign Standard in step with Microsoft Dynamics 365."""
