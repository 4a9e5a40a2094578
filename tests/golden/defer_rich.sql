delete from "contact"."deferred";
