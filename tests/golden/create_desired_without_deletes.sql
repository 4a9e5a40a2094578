create or replace view "contact"."desired" as
select "contactid" as "externalId",
       nullif("firstname", '') as "firstName"
from "contact"."snapshot";
